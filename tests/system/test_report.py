"""The report in a browser: sections are there, pictures decode, nothing sticks out."""

import html
import json
import re
import shutil
import subprocess

import onnx
import pytest
from matplotlib.image import imread
from onnx import TensorProto, helper

from toolkit.core.folder import RunFolder
from toolkit.core.recipe import Named, Recipe, load_recipe
from toolkit.core.signature import Signature, TensorSpec
from toolkit.stages import report

CHROMIUM = shutil.which("chromium")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--hide-scrollbars",
)
SECTIONS = {
    "samples": "Samples",
    "made": "What was made",
    "parity": "Verification",
    "latency": "Latency",
    "rewrites": "Rewrites",
    "engines": "Engines",
    "kept-out": "Kept out",
    "bundle": "Bundle",
    "environment": "Environment",
}
# The page itself holds no script: a copy of it does, so that the browser says what it made of it.
PROBE = """<script>
addEventListener("load", () => {
  const all = selector => [...document.querySelectorAll(selector)];
  const found = {
    pictures: all("img").map(item => item.naturalWidth),
    drawings: all("svg").map(item => item.getBoundingClientRect().width),
    sections: Object.fromEntries(all("section").map(
      item => [item.id, item.querySelector("h2")?.innerText ?? ""])),
    heights: all("section").map(item => item.getBoundingClientRect().height),
    excess: document.documentElement.scrollWidth - innerWidth,
    paper: getComputedStyle(document.body).backgroundColor,
    ink: getComputedStyle(document.querySelector("h1")).color,
  };
  document.body.dataset.probe = JSON.stringify(found);
});
</script>"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt install chromium")


@pytest.fixture
def moons_page(finished_run, tmp_path):
    shutil.copytree(finished_run("realnvp", "verify").path, tmp_path / "realnvp")
    folder = RunFolder(tmp_path / "realnvp")
    report.run(load_recipe(folder.path / "recipe.toml"), folder)
    return folder.path / "report.html"


@pytest.fixture
def pictures_page(tmp_path):
    """The report of a run whose sampler makes pictures of noise."""
    shape = ["batch", 1, 8, 8]
    graph = helper.make_graph(
        [helper.make_node("Sigmoid", ["noise"], ["x"])],
        "sampler",
        [helper.make_tensor_value_info("noise", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
    )
    folder = RunFolder(tmp_path / "pictures")
    folder.entry("sample").mkdir(parents=True)
    opset = [helper.make_opsetid("", 20)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=10)
    onnx.save(model, folder.entry("sample") / "exported.onnx")
    signature = Signature(
        "sample",
        "flow",
        (TensorSpec("noise", "float32", tuple(shape), kind="noise", law="normal"),),
        (TensorSpec("x", "float32", tuple(shape), kind="output"),),
        {"batch": (1, 8, 64)},
    )
    entry = {"signature": signature.as_dict(), "file": "entries/sample/exported.onnx"}
    result = {"files": [], "family": "flow", "entries": {"sample": entry}}
    folder.record("export", {"status": "ok", "reason": "", "result": result})
    report.run(Recipe(name="pictures", data=Named(name="digits")), folder)
    return folder.path / "report.html"


def browse(page, tmp_path, *flags):
    """Open a page; return its document, what the probe found, and the console's lines."""
    command = [CHROMIUM, *FLAGS, *flags, "--virtual-time-budget=5000", "--dump-dom", page.as_uri()]
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    done = subprocess.run(
        ["timeout", "-k", "5", "90", *command[:-1], profile, command[-1]],
        capture_output=True,
        text=True,
        check=False,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    probe = re.search(r'data-probe="([^"]*)"', done.stdout)
    return done.stdout, json.loads(html.unescape(probe[1])) if probe else {}, console


def probed(page, tmp_path, *flags):
    """Open a copy that holds the probe; the page's own policy would not run it."""
    text = page.read_text()
    copy = tmp_path / "probed.html"
    policy = re.search(r"<meta http-equiv[^>]*>", text)[0]
    copy.write_text(text.replace(policy, "").replace("</body>", f"{PROBE}</body>"))
    _, found, console = browse(copy, tmp_path, *flags)
    assert not console
    return found


def test_every_section_is_rendered_and_nothing_sticks_out(moons_page, tmp_path):
    found = probed(moons_page, tmp_path, "--window-size=1280,900")
    assert found["sections"] == {"summary": "", **SECTIONS}
    assert min(found["heights"]) > 60
    assert len(found["drawings"]) >= 2
    assert all(300 < width < 1100 for width in found["drawings"])
    assert found["excess"] <= 0


def test_a_narrow_window_needs_no_sideways_scrolling(moons_page, tmp_path):
    assert probed(moons_page, tmp_path, "--window-size=500,900")["excess"] <= 0


def test_light_and_dark_have_ink_and_paper_of_their_own(pictures_page, tmp_path):
    scheme = "--blink-settings=preferredColorScheme="
    dark, light = (probed(pictures_page, tmp_path, f"{scheme}{value}") for value in (0, 1))
    for page, darker, lighter in ((light, "ink", "paper"), (dark, "paper", "ink")):
        brightness = {
            name: sum(int(part) for part in re.findall(r"\d+", page[name])[:3]) / 765
            for name in ("ink", "paper")
        }
        assert brightness[darker] < 0.15
        assert brightness[lighter] > 0.85


def test_pictures_decode(pictures_page, tmp_path):
    found = probed(pictures_page, tmp_path)
    assert len(found["pictures"]) == 2
    assert all(width > 400 for width in found["pictures"])


def test_the_page_itself_opens_without_a_complaint_and_runs_no_script(pictures_page, tmp_path):
    shot = tmp_path / "shot.png"
    document, _, console = browse(
        pictures_page, tmp_path, f"--screenshot={shot}", "--window-size=1000,1400"
    )
    assert not console
    assert 'id="environment"' in document
    assert imread(shot)[..., :3].std() > 0.05
    hostile = tmp_path / "hostile.html"
    script = "<script>document.body.dataset.probe = '{}'</script></body>"
    hostile.write_text(pictures_page.read_text().replace("</body>", script))
    document, _, console = browse(hostile, tmp_path)
    assert "data-probe" not in document
    assert any("Content Security Policy" in line for line in console)
