import numpy as np

from toolkit.core.case import Case, load_cases, save_cases


def test_numbers_and_transposed_arrays_come_back_in_their_shape(tmp_path):
    inputs = {"time": np.array(3), "x": np.arange(6.0).reshape(2, 3).T}
    save_cases(tmp_path / "golden.safetensors", [Case("parity", "real", inputs, {}, {})])
    (case,) = load_cases(tmp_path / "golden.safetensors")
    for name, array in inputs.items():
        assert case.inputs[name].shape == array.shape
        assert np.array_equal(case.inputs[name], array)
