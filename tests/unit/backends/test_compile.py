import shutil
import sysconfig

from toolkit.backends.compile import backend


def test_names_the_missing_compiler(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "'no-such-compiler': apt install g++" in backend.absent()


def test_names_the_missing_headers(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    assert "apt install python3-dev" in backend.absent()
