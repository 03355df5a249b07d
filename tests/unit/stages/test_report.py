import html
import json
import re
from html.parser import HTMLParser
from importlib import resources

import pytest

from toolkit.core.errors import IntegrityError
from toolkit.core.files import write_json
from toolkit.core.folder import RunFolder
from toolkit.core.recipe import Recipe
from toolkit.stages import report
from toolkit.stages._report.facts import read_facts

SECTIONS = (
    "summary",
    "samples",
    "made",
    "parity",
    "latency",
    "rewrites",
    "engines",
    "kept-out",
    "bundle",
    "environment",
)
HOSTILE = (
    "<script>alert(1)</script>\"'><img src=x onerror=alert(1)> \x1b[31mred\x07 \u202etxt $\\frac{$"
)
VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """Elements with their attributes, and the text of each section."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts, self._section, self._open = [], {}, "", []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.elements.append((tag, attributes))
        if tag == "section":
            self._section = attributes["id"]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag
        if tag == "section":
            self._section = ""

    def handle_data(self, data):
        words = [self.texts.get(self._section, ""), *data.split()]
        self.texts[self._section] = " ".join(words).strip()


def finding(check, status, value=None, limit=None, **more):
    return {
        "check": check,
        "entry": "log_prob",
        "variant": "fp32",
        "backend": "onnxruntime",
        "status": status,
        "value": value,
        "limit": limit,
        "unit": "nats",
        "reason": "",
        "detail": {},
        **more,
    }


def pass_row(name, **more):
    return {
        "entry": "log_prob",
        "variant": "fp32",
        "pass": name,
        "count": 2,
        "operators": {"Conv": -2, "Add": 1},
        "nodes": [40, 39],
        "bytes": [9000, 8000],
        "error": 1e-7,
        "limit": 2e-6,
        "unit": "absolute",
        "ratio": None,
        "interval": None,
        "kept": True,
        "reason": "",
        **more,
    }


def bench_row(backend, p50, **more):
    return {
        "entry": "log_prob",
        "variant": "fp32",
        "backend": backend,
        "batch": 1,
        "threads": 1,
        "count": 900,
        "p50_ms": p50,
        "p90_ms": None,
        "p99_ms": None,
        "throughput_per_s": 1000 / p50,
        "ratio": None,
        "interval": None,
        "verdict": "undecided",
        "baseline": "eager fp32",
        "noise_band": 0.012,
        "outliers": 3,
        "role": "contestant",
        **more,
    }


def record(folder, stage, result, *, status="ok", reason="", **more):
    folder.record(stage, {"status": status, "reason": reason, "result": result, **more})


def add_findings(folder, findings):
    write_json(folder.path / "verify/findings.json", {"findings": findings})
    counts = {
        status: sum(row["status"] == status for row in findings)
        for status in ("ok", "failed", "skipped")
    }
    record(folder, "verify", {"files": [], **counts})


def add_bench(folder, rows, *, samples=(), skipped=()):
    results = {"machine": {"processor": "test"}, "rows": rows, "skipped": list(skipped)}
    write_json(folder.path / "bench/results.json", results)
    write_json(folder.path / "bench/samples.json", {"rows": list(samples)})


def page_of(recipe, folder):
    outcome = report.run(recipe, folder)
    assert outcome.status == "ok"
    assert outcome.detail["files"] == ["report.html"]
    return Page((folder.path / "report.html").read_text())


def test_a_run_without_any_stage_says_what_is_missing(tmp_path):
    page = page_of(Recipe(name="empty"), RunFolder(tmp_path / "empty"))
    assert [attributes["id"] for tag, attributes in page.elements if tag == "section"] == list(
        SECTIONS
    )
    assert "Verification not run nothing is claimed here" in page.texts["summary"]
    stages = {"made": "export", "parity": "verify", "latency": "bench", "rewrites": "optimize"}
    for section, stage in {**stages, "engines": "build", "bundle": "bundle"}.items():
        assert f"{stage} has not run here" in page.texts[section], section


def test_every_section_of_a_finished_run_is_filled(mini_run, mini_recipe):
    size = (mini_run.path / "bundle.zip").stat().st_size
    record(mini_run, "bundle", {"files": ["bundle.zip"], "bytes": size, "entries": ["log_prob"]})
    page = page_of(mini_recipe, mini_run)
    assert "log_prob" in page.texts["made"]
    assert "float32[3, batch, 5]" in page.texts["made"]
    assert "0.0200" in page.texts["latency"]
    assert "entries/log_prob/fp16.onnx" in page.texts["bundle"]
    assert "python run.py selftest" in page.texts["bundle"]
    assert "bench – not run" not in page.texts["environment"]


def test_the_page_needs_nothing_from_outside(mini_run, mini_recipe):
    add_bench(mini_run, [bench_row("eager", 2.0), bench_row("onnxruntime", 1.0)])
    page = page_of(mini_recipe, mini_run)
    assert not [tag for tag, _ in page.elements if tag in ("script", "iframe", "object", "base")]
    for tag, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "srcset"):
            assert attributes.get(name, "#").startswith(("#", "data:")), (tag, attributes)
    text = (mini_run.path / "report.html").read_text()
    assert not re.search(r"url\((?!#)", text)
    assert "default-src 'none'" in text
    assert "@import" not in text


def test_hostile_names_are_shown_and_never_obeyed(mini_run):
    record(
        mini_run,
        "train",
        {"epochs": 2, "metrics": {"test_loss": 1.0, HOSTILE: 2.0}, "parameters": 3},
    )
    (mini_run.path / "metrics.csv").write_text("epoch,test_loss\n1,2.0\n2,1.0\n")
    add_findings(
        mini_run,
        [
            finding(HOSTILE, status, 1.0, 2.0, reason=HOSTILE, backend=HOSTILE)
            for status in STATUSES
        ],
    )
    rows = [bench_row("eager", 2.0, verdict="baseline"), bench_row(HOSTILE, 1.0, ratio=2.0)]
    add_bench(mini_run, rows, skipped=[{"backend": HOSTILE, "reason": HOSTILE}])
    write_json(mini_run.path / "ledger.json", {"rows": [pass_row(HOSTILE, reason=HOSTILE)]})
    refused = {"operator": HOSTILE, "node": HOSTILE, "module": HOSTILE}
    record(mini_run, "build", {"files": [], "engines": [engine("failed", HOSTILE, [refused])]})
    manifest = mini_run.manifest()["stages"]
    entry = manifest["export"]["result"]["entries"].pop("sample.generate")
    entry["signature"]["inputs"][0]["name"] = HOSTILE
    manifest["export"]["result"]["entries"][HOSTILE] = entry
    manifest["export"]["result"]["failed"] = {HOSTILE: HOSTILE}
    mini_run.record("export", manifest["export"])

    page = page_of(Recipe(name=HOSTILE), mini_run)
    text = (mini_run.path / "report.html").read_text()
    assert not [tag for tag, _ in page.elements if tag in ("script", "img")]
    assert not [name for _, attributes in page.elements for name in attributes if name[:2] == "on"]
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", text)
    for section in ("made", "parity", "latency", "rewrites", "engines"):
        assert "<script>alert(1)</script>" in page.texts[section], section
        assert "␛[31mred␇" in page.texts[section], section


STATUSES = ("failed", "ok", "skipped")


def engine(status, reason="", refused=()):
    return {
        "entry": "log_prob",
        "engine": "tensorrt-rtx",
        "precision": "fp32",
        "target": "8.6",
        "file": None,
        "sha256": None,
        "bytes": 123_456 if status == "ok" else None,
        "seconds": 1.5 if status == "ok" else None,
        "status": status,
        "reason": reason,
        "refused": list(refused),
    }


def test_failures_come_first_and_skips_with_their_reasons_last(mini_run, mini_recipe):
    findings = [
        finding("finite", "ok", 0.0, 0.0),
        finding("causality", "skipped", reason="not an autoregressive graph"),
        finding("causality", "skipped", reason="not an autoregressive graph", variant="fp16"),
        finding("parity", "failed", 0.75, 0.5, reason="closest: log_prob on tails"),
    ]
    add_findings(mini_run, findings)
    page = page_of(mini_recipe, mini_run)
    text = page.texts["parity"]
    order = ["closest: log_prob on tails", "finite", "2 skipped, with the reasons", "not an auto"]
    assert sorted(order, key=text.index) == order
    assert text.count("not an autoregressive graph") == 1
    assert "0.750 0.500 nats" in text
    assert "Checks ✕ 1 of 2 failed" in page.texts["summary"]


def test_a_passing_run_says_how_much_of_each_limit_is_used(mini_run, mini_recipe):
    add_findings(
        mini_run,
        [
            finding("parity", "ok", 0.25, 1.0),
            finding("parity", "ok", 80.0, 40.0, unit="psnr"),
            finding("finite", "ok", 0.0, 0.0),
        ],
    )
    page = page_of(mini_recipe, mini_run)
    widths = [a["style"] for tag, a in page.elements if tag == "b" and "style" in a]
    assert widths == ["width:25.0%", "width:50.0%"]
    assert "all 3 passed" in page.texts["summary"]


def test_the_headline_speed_is_the_range_over_all_cases_of_the_exported_graphs(
    mini_run, mini_recipe
):
    rows = [
        bench_row("eager", 8.0, verdict="baseline", ratio=1.0),
        bench_row("compile", 0.1, verdict="faster", ratio=80.0),
        bench_row("onnxruntime", 2.0, verdict="faster", ratio=4.0, interval=[3.9, 4.1]),
        bench_row("onnxruntime", 4.0, variant="fp16", verdict="faster", ratio=2.0),
        bench_row("onnxruntime", 16.0, batch=16, verdict="slower", ratio=0.5),
        bench_row("onnxruntime A/A", 8.0, role="noise", ratio=99.0),
    ]
    add_bench(mini_run, rows)
    page = page_of(mini_recipe, mini_run)
    assert "Speed against eager fp32 0.500–4.00 ×" in page.texts["summary"]
    assert "A/A noise band ± 1.2 %" in page.texts["latency"]
    assert "3.90–4.10 faster" in page.texts["latency"]
    assert "onnxruntime A/A" not in page.texts["latency"]


def test_the_median_s_interval_is_taken_over_rounds(mini_run, mini_recipe):
    rounds = [[1_000_000 * (1 + step)] * 50 for step in range(12)]
    sample = {"entry": "log_prob", "batch": 1, "backend": "eager", "variant": "fp32"}
    add_bench(
        mini_run, [bench_row("eager", 6.5)], samples=[{**sample, "wall_ns": rounds, "role": ""}]
    )
    (group,) = report._context(read_facts(mini_recipe, mini_run))["measured"]
    assert (group["rows"][0]["low_ms"], group["rows"][0]["high_ms"]) == (3.0, 10.0)


def test_rewrites_show_kept_and_rolled_back_with_the_total(mini_run, mini_recipe):
    rows = [
        pass_row("fold", ratio=1.25, interval=[1.2, 1.3]),
        pass_row("reorder", ratio=0.5, kept=False, reason="rolled back: slower, 0.50x"),
        pass_row("idle", count=0, reason="nothing to fold"),
        pass_row("all", ratio=1.24, interval=[1.2, 1.28]),
    ]
    write_json(mini_run.path / "ledger.json", {"rows": rows})
    text = page_of(mini_recipe, mini_run).texts["rewrites"]
    for words in ("1.25 ×, −1 nodes", "times as fast as the exported graph", "+1 Add, −2 Conv"):
        assert words in text
    assert "rolled back: slower, 0.50x" in text
    assert "all together" in text
    assert "1 pass found nothing to do" in text
    assert "nothing to fold" in text


def test_without_timings_the_waterfall_counts_nodes(mini_run, mini_recipe):
    write_json(mini_run.path / "ledger.json", {"rows": [pass_row("fold"), pass_row("all")]})
    text = page_of(mini_recipe, mini_run).texts["rewrites"]
    assert "nodes in the graph" in text
    assert "times as fast" not in text


def test_engines_name_what_was_refused(mini_run, mini_recipe):
    refused = {"operator": "Det", "node": "node_det", "module": "flow.mix"}
    rows = [engine("ok"), engine("failed", "refused", [refused]), engine("skipped", "no package")]
    record(mini_run, "build", {"files": [], "engines": rows})
    text = page_of(mini_recipe, mini_run).texts["engines"]
    assert "123 kB" in text
    assert re.search(r"refused: Det\s+node_det\s+in flow\.mix", text)
    assert "1 skipped, with the reasons" in text
    assert "no package" in text


def test_variants_kept_out_are_listed_with_the_reason(mini_run, mini_recipe):
    manifest = mini_run.manifest()["stages"]["optimize"]
    entry = manifest["result"]["entries"]["log_prob"]
    verdict = {"kept": False, "ratio": 0.71, "reason": "slower than fp32"}
    entry["variants"]["fp16"]["kept"]["onnxruntime"] = verdict
    entry["skipped"] = {"int8": "nothing to quantise"}
    mini_run.record("optimize", manifest)
    text = page_of(mini_recipe, mini_run).texts["kept-out"]
    assert "fp16 onnxruntime 0.710 × slower than fp32" in text
    assert "int8 not made – nothing to quantise" in text


def test_a_failed_stage_is_told_at_the_top(mini_run, mini_recipe):
    record(mini_run, "build", {"files": [], "engines": []}, status="failed", reason="it crashed")
    text = page_of(mini_recipe, mini_run).texts["summary"]
    assert "The stage build failed. it crashed" in text


def test_a_result_of_an_earlier_state_is_marked(mini_run, mini_recipe):
    export = mini_run.manifest()["stages"]["export"]
    mini_run.record("export", {**export, "key": "of another recipe", "outputs": {}})
    text = page_of(mini_recipe, mini_run).texts["environment"]
    assert re.search(r"export\s+✓\s+ok\s+–\s+of an earlier state", text)
    assert text.count("of an earlier state") == 1


def test_a_graph_that_cannot_run_does_not_stop_the_report(mini_run, mini_recipe):
    for name in ("exported", "fp32"):
        (mini_run.entry("sample.generate") / f"{name}.onnx").write_bytes(b"no graph")
    text = page_of(mini_recipe, mini_run).texts["samples"]
    assert "the graph cannot be read" in text


def test_samples_of_no_showable_form_are_said_to_be_so(mini_run, mini_recipe):
    assert "neither a picture nor a point" in page_of(mini_recipe, mini_run).texts["samples"]


@pytest.mark.parametrize("file", ["verify/findings.json", "ledger.json", "metrics.csv"])
def test_a_damaged_result_is_named(mini_run, mini_recipe, file):
    add_findings(mini_run, [])
    record(mini_run, "train", {"metrics": {}, "epochs": 1, "parameters": 1})
    (mini_run.path / file).write_text("epoch\nnonsense\n")
    with pytest.raises(IntegrityError, match="cannot be read") as caught:
        report.run(mini_recipe, mini_run)
    assert caught.value.where.endswith(file)
    assert not (mini_run.path / "report.html").exists()


def test_charts_take_the_colours_of_the_page(mini_run, mini_recipe):
    add_bench(mini_run, [bench_row("eager", 2.0, verdict="baseline"), bench_row("openvino", 1.0)])
    page_of(mini_recipe, mini_run)
    text = (mini_run.path / "report.html").read_text()
    svg = text[text.index("<svg") : text.index("</svg>")]
    assert "var(--grey)" in svg
    assert "#0a0b0" not in svg
    assert "prefers-color-scheme: dark" in text


def test_the_template_lies_beside_the_code():
    assert (resources.files("toolkit.stages._report") / report.TEMPLATE).is_file()
    assert "stages/_report" in report.SOURCES


def test_numbers_survive_the_way_through_json(mini_run, mini_recipe):
    add_findings(mini_run, [finding("parity", "failed", float("nan"), 0.5, reason="NaN")])
    assert json.loads((mini_run.path / "verify/findings.json").read_text())
    assert "– 0.500 nats NaN" in page_of(mini_recipe, mini_run).texts["parity"]
    assert html.escape(HOSTILE) not in (mini_run.path / "report.html").read_text()
