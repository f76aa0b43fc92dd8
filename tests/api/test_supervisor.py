"""What the supervisor does before it starts anything."""

from pathlib import Path

import pytest

from api.supervisor import _put_old_guard_aside
from service.settings import Settings


@pytest.mark.parametrize("left", [None, "servers", "log"])
def test_a_guard_is_put_aside_only_where_nothing_of_its_platform_is_left(tmp_path: Path, left: str | None) -> None:
    data, said = tmp_path / "data", list[str]()
    settings = Settings(data_dir=data)
    _put_old_guard_aside(settings, lambda zh, en: said.append(en))
    assert said == []
    settings.guard_file.write_text("{}", "utf-8")
    if left:
        (data / left).mkdir(parents=True)
    _put_old_guard_aside(settings, lambda zh, en: said.append(en))
    assert settings.guard_file.exists() == bool(left)
    assert len(said) == (0 if left else 1)
    assert [path.read_text("utf-8") for path in tmp_path.glob("data.guard*")] == ["{}"]  # kept in any case
