"""Foreign `.onnx` files that are damaged or hostile are refused before anything loads them."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from toolkit.core import guard
from toolkit.core.errors import IntegrityError, TimedOut, ToolkitError, UsageError
from toolkit.core.signature import Signature, TensorSpec
from toolkit.runtime.graph import Graph

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
OPSET = [helper.make_opsetid("", 20)]
SIGNATURE = Signature(
    "f",
    "any",
    (TensorSpec("x", "float32", ("batch", 4)),),
    (TensorSpec("y", "float32", ("batch", 4)),),
)


def value(name: str, shape=("batch", 4), dtype=FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def model(nodes=None, initializers=(), *, functions=(), opset=None, ir=10, outputs=None, **more):
    nodes = [helper.make_node("Relu", ["x"], ["y"])] if nodes is None else nodes
    graph = helper.make_graph(nodes, "g", [value("x")], outputs or [value("y")], initializers)
    opset = OPSET if opset is None else opset
    made = helper.make_model(graph, opset_imports=opset, functions=functions, ir_version=ir)
    for key, item in more.items():
        setattr(made, key, item)
    return made


def added(tensor: onnx.TensorProto, **more) -> onnx.ModelProto:
    return model([helper.make_node("Add", ["x", tensor.name], ["y"])], [tensor], **more)


def tensor(name="w", dims=(4,), dtype=FLOAT, raw: bytes | None = b"\0" * 16) -> onnx.TensorProto:
    made = TensorProto(name=name, data_type=dtype, dims=dims)
    if raw is not None:
        made.raw_data = raw
    return made


def external(location: str | None = "data.bin", **fields: str) -> onnx.TensorProto:
    made = tensor(raw=None, dims=fields.pop("dims", (4,)))
    made.data_location = TensorProto.EXTERNAL
    pairs = fields.pop("pairs", None) or {
        **({} if location is None else {"location": location}),
        "offset": "0",
        "length": "16",
        **fields,
    }
    for key, item in pairs.items() if isinstance(pairs, dict) else pairs:
        made.external_data.add(key=key, value=item)
    return made


def save(folder: Path, made: onnx.ModelProto | bytes) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
    return path


def with_data(location="data.bin", prepare: Callable[[Path], object] | None = None, **fields):
    """A model with external data; `prepare` lays out the folder."""

    def build(folder: Path) -> Path:
        (folder / "data.bin").write_bytes(b"\0" * 64)
        (folder / "secret").mkdir()
        (folder / "secret" / "key.bin").write_bytes(b"s" * 64)
        if prepare:
            prepare(folder)
        return save(folder, added(external(location, **fields)))

    return build


def plain(make: Callable[[], onnx.ModelProto | bytes]):
    return lambda folder: save(folder, make())


def branch(inner: list[onnx.NodeProto], initializers=()) -> onnx.GraphProto:
    return helper.make_graph(inner, "branch", [], [value("z")], initializers)


def conditional(inner: onnx.GraphProto) -> onnx.ModelProto:
    condition = numpy_helper.from_array(np.array(True), "c")
    other = branch([helper.make_node("Relu", ["x"], ["z"])])
    return model(
        [helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=other)], [condition]
    )


def nested_if(depth: int) -> onnx.ModelProto:
    graph = branch([helper.make_node("Relu", ["x"], ["z"])])
    for level in range(depth):
        other = branch([helper.make_node("Relu", ["x"], ["z"])])
        node = helper.make_node("If", ["c"], ["z"], then_branch=graph, else_branch=other)
        node.output[0] = f"z{level}"
        graph = helper.make_graph([node], "branch", [], [value(f"z{level}")])
    return conditional(graph)


def both_branches(depth: int, path: str = "z") -> onnx.GraphProto:
    if not depth:
        return branch([helper.make_node("Relu", ["x"], ["z"])])
    one, other = both_branches(depth - 1, f"{path}t"), both_branches(depth - 1, f"{path}e")
    node = helper.make_node("If", ["c"], [path], then_branch=one, else_branch=other)
    return helper.make_graph([node], "branch", [], [value(path)])


def function(name: str, calls: list[str]) -> onnx.FunctionProto:
    nodes, last = [], "a"
    for index, called in enumerate(calls):
        domain = "" if called == "Relu" else "local"
        nodes.append(helper.make_node(called, [last], [f"t{index}"], domain=domain))
        last = f"t{index}"
    nodes[-1].output[0] = "b"
    return helper.make_function(
        "local", name, ["a"], ["b"], nodes, [*OPSET, helper.make_opsetid("local", 1)]
    )


def calling(functions: list[onnx.FunctionProto], first: str) -> onnx.ModelProto:
    return model(
        [helper.make_node(first, ["x"], ["y"], domain="local")],
        functions=functions,
        opset=[*OPSET, helper.make_opsetid("local", 1)],
    )


def laughs(levels: int, width: int) -> onnx.ModelProto:
    functions = [function("f0", ["Relu"])]
    functions += [function(f"f{i}", [f"f{i - 1}"] * width) for i in range(1, levels)]
    return calling(functions, f"f{levels - 1}")


def chain(length: int) -> onnx.ModelProto:
    functions = [function("f0", ["Relu"])]
    functions += [function(f"f{i}", [f"f{i - 1}"]) for i in range(1, length)]
    return calling(functions, f"f{length - 1}")


def deep_raw(folder: Path) -> Path:
    """3,000 nested `If` in hand-written protobuf, which no library would write."""

    def field(number: int, body: bytes) -> bytes:
        size, length = len(body), b""
        while True:
            length += bytes([size & 127 | (128 if size > 127 else 0)])
            size >>= 7
            if not size:
                return bytes([number << 3 | 2]) + length + body

    body = b""
    for _ in range(3000):
        attribute = field(1, b"then_branch") + field(6, body)
        body = field(1, field(4, b"If") + field(5, attribute))
    return save(folder, b"\x08\x0a" + field(7, body))


def sparse_model() -> onnx.ModelProto:
    made = model()
    values = tensor("s", dims=(1,), raw=b"\0" * 4)
    indices = numpy_helper.from_array(np.array([99]), "i")
    made.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4]))
    return made


def constant_of_bad_location() -> onnx.ModelProto:
    constant = helper.make_node("Constant", [], ["w"], value=external("../secret"))
    return model([constant, helper.make_node("Add", ["x", "w"], ["y"])])


def subgraph_of_bad_location() -> onnx.ModelProto:
    inner = branch([helper.make_node("Add", ["x", "w"], ["z"])], [external("../secret")])
    return conditional(inner)


def cycle() -> onnx.ModelProto:
    return model(
        [NODE("Add", ["x", "b"], ["a"]), NODE("Add", ["x", "a"], ["b"]), NODE("Relu", ["b"], ["y"])]
    )


def imported_twice() -> onnx.ModelProto:
    return model(opset=[*OPSET, helper.make_opsetid("", 19)])


def with_name(name: str) -> onnx.ModelProto:
    return model([helper.make_node("Relu", ["x"], [name]), helper.make_node("Relu", [name], ["y"])])


def bad_utf8() -> bytes:
    return with_name("QQQQ").SerializeToString().replace(b"QQQQ", b"\xff\xfe\xff\xfe")


def cut(_: object = None) -> bytes:
    whole = added(numpy_helper.from_array(np.zeros(4, np.float32), "w")).SerializeToString()
    return whole[: len(whole) // 2]


def zipped(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "model.onnx", "w") as archive:
        archive.writestr("data.pkl", b"x")
    return folder / "model.onnx"


def loop() -> onnx.ModelProto:
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Relu", ["state"], ["next"]),
        ],
        "body",
        [value("i", [], INT64), value("go", [], BOOL), value("state")],
        [value("go_on", [], BOOL), value("next")],
    )
    trips = numpy_helper.from_array(np.array(2**62), "trips")
    stays = numpy_helper.from_array(np.array(True), "true")
    return model(
        [helper.make_node("Loop", ["trips", "true", "x"], ["y"], body=body)], [trips, stays]
    )


def bomb(operator: str) -> onnx.ModelProto:
    sizes = numpy_helper.from_array(np.array([1 << 36]), "sizes")
    if operator == "Tile":
        one = numpy_helper.from_array(np.ones(1, np.float32), "one")
        make, initializers = helper.make_node("Tile", ["one", "sizes"], ["big"]), [one, sizes]
    else:
        make, initializers = helper.make_node("ConstantOfShape", ["sizes"], ["big"]), [sizes]
    nodes = [
        make,
        helper.make_node("ReduceSum", ["big"], ["s"], keepdims=0),
        helper.make_node("Add", ["x", "s"], ["y"]),
    ]
    return model(nodes, initializers)


def reshaped() -> onnx.ModelProto:
    shape = numpy_helper.from_array(np.array([3, -1]), "shape")
    four = numpy_helper.from_array(np.zeros(4, np.float32), "four")
    return model(
        [
            helper.make_node("Reshape", ["four", "shape"], ["r"]),
            helper.make_node("Relu", ["x"], ["y"]),
        ],
        [shape, four],
    )


def padded() -> onnx.ModelProto:
    kernel = numpy_helper.from_array(np.zeros((1, 1, 3), np.float32), "k")
    wide = numpy_helper.from_array(np.zeros((1, 1, 4), np.float32), "wide")
    node = helper.make_node("Conv", ["wide", "k"], ["c"], pads=[-(2**40), -(2**40)])
    return model([node, helper.make_node("Relu", ["x"], ["y"])], [kernel, wide])


def neg_value_dim() -> onnx.ModelProto:
    return model(outputs=[value("y", [-3, 4])])


NODE = helper.make_node
TWO = [NODE("Relu", ["x"], ["a"]), NODE("Relu", ["a"], ["y"])]
COMMA = NODE("Relu", ["x"], ["y"])

REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "02 ext_absolute": (with_data("/etc/passwd"), "external path"),
    "03 ext_dotdot": (with_data("../data.bin"), "external path"),
    "04 ext_nested_dotdot": (with_data("secret/../../x"), "external path"),
    "05 ext_symlink_file": (
        with_data("link", lambda f: (f / "link").symlink_to(f / "data.bin")),
        "symbolic link",
    ),
    "06 ext_symlink_dir": (
        with_data("dir/key.bin", lambda f: (f / "dir").symlink_to(f / "secret")),
        "symbolic link",
    ),
    "07 ext_hardlink": (
        with_data("hard", lambda f: os.link(f / "secret" / "key.bin", f / "hard")),
        "hard link",
    ),
    "08 ext_offset_past_eof": (with_data(offset="4096"), "past its file"),
    "09 ext_offset_negative": (with_data(offset="-1"), "malformed offset"),
    "10 ext_offset_nan": (with_data(offset="nan"), "malformed offset"),
    "11 ext_length_huge": (with_data(length="9" * 30), "malformed offset"),
    "12 ext_length_short": (with_data(length="8"), "its shape needs 16"),
    "13 ext_missing_file": (with_data("gone.bin"), "missing"),
    "14 ext_no_location": (with_data(None), "external path"),
    "15 ext_empty_location": (with_data(""), "external path"),
    "16 ext_nul_in_location": (with_data("data.bin\0x"), "external path"),
    "17 ext_backslash": (with_data("..\\data.bin"), "external path"),
    "18 ext_fifo": (with_data("pipe", lambda f: os.mkfifo(f / "pipe")), "not a regular file"),
    "19 ext_devzero_link": (
        with_data("zero", lambda f: (f / "zero").symlink_to("/dev/zero")),
        "symbolic link",
    ),
    "20 ext_directory": (with_data("secret"), "not a regular file"),
    "21 ext_dup_location": (
        with_data(pairs=[("location", "data.bin"), ("location", "/etc/passwd")]),
        "key twice",
    ),
    "22 ext_unknown_key": (with_data(colour="red"), "unknown key"),
    "23 ext_dims_overflow": (with_data(dims=(2**62, 2**62)), "impossible shape"),
    "24 ext_dims_1TB": (with_data(dims=(2**38,)), "its shape needs"),
    "25 ext_ort_mem_marker": (with_data("*/_ORT_MEM_ADDR_/*"), "external path"),
    "26 ext_in_constant_attr": (plain(constant_of_bad_location), "external path"),
    "27 ext_in_subgraph": (plain(subgraph_of_bad_location), "external path"),
    "28 empty_file": (plain(lambda: b""), "empty"),
    "29 truncated": (plain(cut), "not ONNX"),
    "30 random_bytes": (
        plain(lambda: np.random.default_rng(0).bytes(4096)),
        "not ONNX",
    ),
    "31 lfs_pointer": (
        plain(lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n"),
        "git lfs pull",
    ),
    "32 zip_as_onnx": (zipped, "torch checkpoint"),
    "33 trailing_garbage": (plain(lambda: model().SerializeToString() + b"\xff" * 16), "not ONNX"),
    "34 length_prefix_2gb": (plain(lambda: b"\x08\x0a\x3a\xff\xff\xff\xff\x07abc"), "not ONNX"),
    "35 deep_if_3000_raw": (deep_raw, "nested too deeply"),
    "36 cycle": (plain(cycle), "cycle"),
    "37 unsorted": (plain(lambda: model(TWO[::-1])), "not in order"),
    "38 dangling_input": (plain(lambda: model([NODE("Add", ["x", "?"], ["y"])])), "nothing makes"),
    "38b dangling_output": (plain(lambda: model([NODE("Relu", ["x"], ["q"])])), "nothing makes"),
    "39 dup_output": (plain(lambda: model([COMMA, COMMA])), "made twice"),
    "40 dup_initializer": (
        plain(lambda: model(initializers=[tensor(), tensor()])),
        "initializers have one name",
    ),
    "41 unknown_op": (
        plain(lambda: model([NODE("Reluu", ["x"], ["y"])])),
        "ai.onnx::Reluu at opset 20",
    ),
    "42 unknown_domain": (
        plain(lambda: model([NODE("Relu", ["x"], ["y"], domain="evil")])),
        "evil::Relu is of an unknown domain",
    ),
    "43 opset_999": (plain(lambda: model(opset=[helper.make_opsetid("", 999)])), "too new"),
    "44 opset_missing": (plain(lambda: model(opset=[])), "missing"),
    "44b opset_twice": (plain(imported_twice), "imported twice"),
    "45 ir_9999": (plain(lambda: model(ir=9999)), "too new"),
    "46 raw_too_short": (plain(lambda: added(tensor(raw=b"\0" * 8))), "its shape needs 16"),
    "47 raw_too_long": (plain(lambda: added(tensor(raw=b"\0" * 32))), "its shape needs 16"),
    "48 neg_dim": (plain(lambda: added(tensor(dims=(-4,)))), "impossible shape"),
    "48b neg_dim_of_value": (plain(neg_value_dim), "negative size"),
    "49 dim_overflow": (plain(lambda: added(tensor(dims=(2**62, 4, 2**62)))), "impossible shape"),
    "50 bad_dtype": (plain(lambda: added(tensor(dtype=99))), "unknown type"),
    "52 sparse_oob": (plain(sparse_model), "out of bounds"),
    "53 recursive_function": (plain(lambda: calling([function("f", ["f"])], "f")), "calls itself"),
    "54 function_billion_laughs": (plain(lambda: laughs(30, 10)), "expand to more than"),
    "61 invalid_utf8_name": (plain(bad_utf8), "UTF-8"),
    "63 reshape_mismatch": (plain(reshaped), "the ONNX checker says"),
    "64 conv_huge_pads": (plain(padded), "the ONNX checker says"),
    "65 wrong_declared_output_shape": (
        plain(lambda: model(outputs=[value("y", [7, 9])])),
        "the ONNX checker says",
    ),
    "66 epcontext_path": (
        plain(lambda: model([NODE("EPContext", ["x"], ["y"], domain="com.microsoft")])),
        "loads other files",
    ),
    "67 fn_chain_3000": (plain(lambda: chain(3000)), "more than 100 deep"),
    "68 fn_mutual_recursion": (
        plain(lambda: calling([function("f", ["g"]), function("g", ["f"])], "f")),
        "calls itself",
    ),
}
ACCEPTED = {
    "01 ext_ok_control": with_data(),
    "51 nan_weights": plain(lambda: added(tensor(raw=struct.pack("<4f", *[float("nan")] * 4)))),
    "55 loop_forever": plain(loop),
    "57 constofshape_bomb": plain(lambda: bomb("ConstantOfShape")),
    "58 tile_bomb": plain(lambda: bomb("Tile")),
    "59 tensor_name_traversal": plain(lambda: with_name("../../etc/passwd")),
    "60 ansi_html_names": plain(lambda: with_name("\x1b[31m<script>alert(1)</script>")),
    "67b fn_chain_50": plain(lambda: chain(50)),
    "70 nested_if_20": plain(lambda: nested_if(20)),
    "116 nested_both_branches": plain(lambda: conditional(both_branches(6))),
}
WARNED = {"51 nan_weights": "NaN", "57 constofshape_bomb": "bytes"}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses_a_hostile_graph_and_says_why(case: str, tmp_path: Path) -> None:
    build, reason = REFUSED[case]
    with pytest.raises(IntegrityError) as caught:
        guard.examine(build(tmp_path))
    assert reason in str(caught.value)
    assert str(caught.value).isascii()
    assert caught.value.exit_code == 6
    assert str(tmp_path) in caught.value.where


@pytest.mark.parametrize("case", ACCEPTED)
def test_accepts_what_is_only_odd(case: str, tmp_path: Path) -> None:
    report = guard.examine(ACCEPTED[case](tmp_path))
    assert report["nodes"] >= 1
    assert WARNED.get(case, "") in " ".join(report["warnings"])


def test_allows_a_domain_that_is_named(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        model(
            [helper.make_node("Relu", ["x"], ["y"], domain="mine")],
            opset=[*OPSET, helper.make_opsetid("mine", 1)],
        ),
    )
    with pytest.raises(IntegrityError, match="unknown domain"):
        guard.examine(path)
    assert guard.examine(path, domains=("mine",))["nodes"] == 1


@pytest.mark.parametrize(
    "case", ["07 ext_hardlink", "54 function_billion_laughs", "67 fn_chain_3000"]
)
def test_examines_in_a_child_process(case: str, tmp_path: Path) -> None:
    build, reason = REFUSED[case]
    with pytest.raises(IntegrityError, match=reason):
        guard.inspect(build(tmp_path), timeout=30)


def test_a_child_that_hangs_is_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hangs(*_: object, **__: object) -> None:
        raise TimedOut("did not finish")

    monkeypatch.setattr(guard.isolate, "call", hangs)
    with pytest.raises(IntegrityError, match="takes longer than 3 s"):
        guard.inspect(save(tmp_path, model()), timeout=3)


def test_a_child_that_passes_its_memory_limit_is_a_refusal(tmp_path: Path) -> None:
    path = save(tmp_path, model())
    os.truncate(path, 1 << 30)
    with pytest.raises(IntegrityError, match="MemoryError"):
        guard.inspect(path, timeout=30, memory=600 << 20)


def test_opens_no_file_outside_the_models_folder(tmp_path: Path) -> None:
    path = REFUSED["07 ext_hardlink"][0](tmp_path)
    script = (
        "import sys, onnx, numpy, graphlib\n"
        "from toolkit.core import guard\n"
        "from toolkit.core.errors import IntegrityError\n"
        "opened = []\n"
        "sys.addaudithook(lambda e, a: opened.append(a[0]) if e == 'open' else None)\n"
        "from pathlib import Path\n"
        "try: guard.examine(Path(sys.argv[1]))\n"
        "except IntegrityError: pass\n"
        "names = [name for name in opened if isinstance(name, str)]\n"
        "print([name for name in names if not name.endswith(('.pyc', '.so'))])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{[str(path)]}\n"


@pytest.mark.parametrize(
    "make",
    [
        lambda f: f,
        lambda f: f / "absent.onnx",
        lambda f: os.mkfifo(f / "pipe") or f / "pipe",
        lambda f: Path("/dev/zero"),
    ],
    ids=["folder", "absent", "fifo", "device"],
)
def test_110_what_is_no_file_is_a_usage_error(make: Callable[[Path], Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        guard.examine(make(tmp_path))


def test_110_a_file_over_two_gibibytes_is_a_usage_error(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with path.open("wb") as stream:
        stream.truncate(2 << 30)
    with pytest.raises(UsageError, match="2 GiB"):
        guard.examine(path)


def test_55_an_endless_loop_is_stopped(tmp_path: Path) -> None:
    graph = Graph(save(tmp_path, loop()), SIGNATURE, timeout=0.5)
    with pytest.raises(TimedOut) as caught:
        graph({"x": np.ones((1, 4), np.float32)})
    assert caught.value.exit_code == 7


def test_62_an_index_out_of_bounds_is_a_run_error(tmp_path: Path) -> None:
    index = numpy_helper.from_array(np.array([99]), "i")
    shape = numpy_helper.from_array(np.array([-1, 4]), "shape")
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "i"], ["q"]),
        helper.make_node("Cast", ["q"], ["r"], to=FLOAT),
        helper.make_node("Add", ["x", "r"], ["y"]),
    ]
    graph = Graph(save(tmp_path, model(nodes, [index, shape])), SIGNATURE)
    with pytest.raises(ToolkitError, match="the graph failed on these inputs"):
        graph({"x": np.ones((1, 4), np.float32)})


def test_57_a_memory_bomb_is_an_error_and_the_host_lives(tmp_path: Path) -> None:
    """The graph asks for 256 GiB: onnxruntime folds it at load or fails at the run."""
    path = save(tmp_path, bomb("ConstantOfShape"))
    with pytest.raises(ToolkitError):
        Graph(path, SIGNATURE)({"x": np.ones((1, 4), np.float32)})
