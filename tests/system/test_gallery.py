"""The gallery's bundles, made by earlier versions, still load and pass their self-test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from toolkit.runtime import load, selftest

GALLERY = Path(__file__).parents[2] / "exported" / "gallery"
BUNDLES = sorted(GALLERY.glob("*/bundle.zip"))


def test_the_gallery_is_there_and_small() -> None:
    files = [path for path in GALLERY.rglob("*") if path.is_file()]
    assert {path.parent.name for path in BUNDLES} >= {"glow", "pixelcnn", "realnvp"}
    assert sum(path.stat().st_size for path in files) < 5_000_000


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.parent.name)
def test_a_bundle_passes_its_self_test(bundle: Path) -> None:
    results = selftest(bundle)
    assert results
    assert all(result.status == "ok" for result in results), results


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.parent.name)
def test_a_bundle_answers(bundle: Path) -> None:
    with load(bundle) as session:
        for entry in session.entries:
            call = session[entry]
            feeds = {
                spec.name: np.zeros(
                    [size if isinstance(size, int) else 3 for size in spec.dims], spec.dtype
                )
                for spec in session.signature(entry).inputs
            }
            assert call.run(feeds)


@pytest.mark.parametrize(
    "report", sorted(GALLERY.glob("*/report.html")), ids=lambda p: p.parent.name
)
def test_a_report_is_self_contained(report: Path) -> None:
    text = report.read_text()
    assert "<title>" in text
    assert 'src="http' not in text
    assert 'href="http' not in text


@pytest.mark.parametrize("grid", sorted(GALLERY.glob("*/samples.png")), ids=lambda p: p.parent.name)
def test_a_sample_grid_is_a_picture(grid: Path) -> None:
    assert grid.read_bytes().startswith(b"\x89PNG")
