"""The drawing and the player: complete, small, and without a network."""

import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

from optcourse.landscape import draw, player
from optcourse.problems import Beale, Saddle


def panels(steps=50):
    t = np.linspace(0, 1, steps + 1)
    falling = np.stack([1 - t, 0.5 * t], axis=1)
    runaway = np.stack([t, np.where(t < 0.5, t, np.nan)], axis=1)
    return {"a": (Saddle(), {"one": falling, "two": -falling}), "b": (Beale(), {"two": falling, "three": runaway})}


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def named(self, name):
        return [attrs for tag, attrs in self.found if tag == name]


def test_nothing_is_loaded_and_the_page_stays_small():
    text = player(panels(300)).data
    tags = Tags(text)
    addresses = [v for _, attrs in tags.found for k, v in attrs.items() if k in ("href", "src")]
    assert len(addresses) == 1 and addresses[0].startswith("data:image/png;base64,")
    assert "http" not in re.sub(r"base64,[^\"]*", "", text) and not tags.named("link")
    assert len(text) < 500_000


def test_the_player_is_complete_without_its_script():
    tags = Tags(player(panels()).data)
    points = [line["points"].split() for line in tags.named("polyline")]
    assert [len(p) for p in points] == [51, 51, 51, 25]  # the last path ends where it stops being finite
    assert len(tags.named("circle")) == 4
    assert tags.named("input")[0]["max"] == "50"


def script(text):
    return text[text.index("<script>") + len("<script>") : text.index("</script>")]


def test_the_script_finds_its_player_and_moves_on():
    text = player(panels(), seconds=1.0).data
    name = re.search('id="(player-.*?)"', text)[1]
    assert f'getElementById("{name}")' in script(text) and "@" not in script(text)
    assert "+slider.value + 2;" in script(text)  # 50 steps in 20 ticks of 50 ms: two (rounded) steps each


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node to parse the script")
def test_the_script_is_javascript(tmp_path):
    (tmp_path / "player.js").write_text(script(player(panels()).data))
    subprocess.run(["node", "--check", str(tmp_path / "player.js")], check=True)


def test_paths_lie_where_the_figure_draws_them():
    surface = Saddle()
    (x0, x1), (y0, y1) = surface.region
    corners = np.array([[x0, y0], [x1, y1]])
    tags = Tags(player({"one": (surface, {"diagonal": corners})}).data)
    window = tags.named("svg")[1]
    first, last = (list(map(float, p.split(","))) for p in tags.named("polyline")[0]["points"].split())
    x, y, width, height = (float(window[k]) for k in ("x", "y", "width", "height"))
    np.testing.assert_allclose(first, [x, y + height], atol=0.2)  # pixels count downwards
    np.testing.assert_allclose(last, [x + width, y], atol=0.2)


def test_two_players_have_different_names_and_the_same_paths_the_same():
    first, again, other = player(panels()).data, player(panels()).data, player(panels(40)).data
    assert first == again and re.findall('id="(player-.*?)"', first) != re.findall('id="(player-.*?)"', other)


def test_a_drawing_shows_paths_up_to_a_step_and_one_colour_per_name():
    fig = draw(panels(), steps=10)
    left, right = fig.axes[:2]
    drawn = [line for ax in (left, right) for line in ax.lines if len(line.get_xdata()) > 1]
    assert {len(line.get_xdata()) for line in drawn} == {11}
    assert drawn[1].get_color() == drawn[2].get_color() != drawn[0].get_color()
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["one", "two", "three"]


def test_more_names_than_colours_are_told_apart_by_dashes():
    path = np.zeros((3, 2))
    fig = draw({"many": (Saddle(), {f"method {i}": path for i in range(10)})})
    looks = {(line.get_color(), line.is_dashed()) for line in fig.legends[0].get_lines()}
    assert len(looks) == 10


@pytest.mark.parametrize(
    ("arguments", "options", "named"),
    [
        ({}, {}, "panels"),
        ({"a": (Saddle(), {"flat": np.zeros(5)})}, {}, "flat"),
        ({"a": (Saddle(), {"lost": np.full((3, 2), np.nan)})}, {}, "lost"),
        ({"a": (Saddle(), {"one": np.zeros((3, 2))})}, {"seconds": 0.0}, "seconds"),
    ],
)
def test_bad_arguments_are_named(arguments, options, named):
    with pytest.raises(ValueError, match=named):
        player(arguments, **options)
