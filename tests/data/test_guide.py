import re
from pathlib import Path

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "data.md"


def test_the_guide_runs(no_network, capsys):
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    namespace: dict = {}
    for block in blocks:
        exec(compile(block, str(GUIDE), "exec"), namespace)
    out = capsys.readouterr().out
    assert "column 'colour' has no value in row 1" in out
    assert "no: left out: it counts the rows" in out
    assert "('width', 'colour red', 'colour nan')" in out
    assert "[5, 6, 7, 8, 9]" in out
