"""The place of the cache folder."""

import os
from pathlib import Path

import pytest

from latentrt.runtime.system.cache_folder import cache_folder


@pytest.mark.skipif(os.name == "nt", reason="Windows finds the home folder otherwise")
def test_a_tilde_that_no_shell_replaced_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of settings (of systemd, Docker and Kubernetes) hold such values, and no shell reads them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LATENTRT_CACHE", "~/caches/latentrt")
    assert cache_folder("locks") == tmp_path / "home" / "caches" / "latentrt" / "locks"
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    monkeypatch.setenv("LATENTRT_CACHE", "~no-such-user/cache")
    with pytest.raises(FileNotFoundError, match="set LATENTRT_CACHE to a folder"):
        cache_folder("locks")
