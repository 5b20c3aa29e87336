"""The course's own table, and how lectures are found by name."""

import re
from pathlib import Path

import pytest

from optcourse.course import catalog

TABLE = Path(__file__).parents[2] / "lectures" / "topics.toml"
# How many topics each lecture of the syllabus has, 01 to 20.
COUNTS = [5, 8, 5, 6, 9, 6, 4, 7, 8, 2, 6, 5, 6, 7, 5, 4, 4, 3, 3, 3]
LECTURE = '[[lecture]]\nid = "01"\ntitle = "T"\nnotebook = "01_t.ipynb"\nstatus = "written"\n'
TOPIC = (
    '[[topic]]\nid = "01.1"\nlecture = "01"\ndeck = ["A"]\nbeyond = false\ntitle = "t"\n'
    'slide = "s"\npaper = "p"\nshows = "x"\n'
)
DECK = '[[deck]]\nid = "A"\ntitle = "T"\nauthors = "N"\nplace = "P"\n'
SLIDE = '[[slide]]\ndeck = "A"\ntitle = "s"\n'


def test_the_table_has_every_topic_of_the_syllabus():
    table = catalog.load(TABLE)
    expected = [f"{n:02}.{k}" for n, count in enumerate(COUNTS, start=1) for k in range(1, count + 1)]
    assert [topic.id for topic in table.topics] == expected
    assert [lecture.id for lecture in table.lectures] == [f"{n:02}" for n in range(1, 21)]
    assert {topic.id for topic in table.topics if topic.beyond} == {"04.6", "05.9"}


def test_every_topic_says_what_it_shows_and_where_it_comes_from():
    for topic in catalog.load(TABLE).topics:
        assert topic.title and topic.shows.endswith("."), topic.id
        assert topic.paper or topic.id == "20.3", topic.id
        # One "deck: title" for each deck at least, and none for another deck.
        parts = topic.slide.split(" | ") if topic.slide else []
        assert all(re.match(r"[A-E]: \S", part) for part in parts), topic.id
        assert {part[0] for part in parts} == set(topic.deck), topic.id


def test_written_lectures_are_there_under_their_name():
    for lecture in catalog.load(TABLE).lectures:
        assert re.fullmatch(lecture.id + r"_\w+\.ipynb", lecture.notebook)
        assert (TABLE.parent / lecture.notebook).exists() == (lecture.status == "written"), lecture.id


@pytest.mark.parametrize(
    ("text", "named", "problem"),
    [
        (LECTURE + "colour = 1\n", "lecture '01'", "unknown key colour"),
        (LECTURE + LECTURE, "lecture '01'", "duplicate id"),
        (LECTURE.replace("written", "soon"), "lecture '01'", "status must be"),
        (LECTURE.replace('title = "T"', "title = 3"), "lecture '01'", "title has the wrong type"),
        (LECTURE + TOPIC + TOPIC, "topic '01.1'", "duplicate id"),
        (TOPIC, "topic '01.1'", "no lecture '01'"),
        (LECTURE + TOPIC.replace('paper = "p"\n', ""), "topic '01.1'", "missing key paper"),
        (LECTURE + TOPIC.replace('["A"]', '["F"]'), "topic '01.1'", "deck must list"),
        (LECTURE + TOPIC.replace('["A"]', "[]"), "topic '01.1'", "beyond"),
        (LECTURE + TOPIC.replace('id = "01.1"', 'id = "02.1"'), "topic '02.1'", "id must begin"),
        ("[[lesson]]\n", "topics.toml", "unknown table lesson"),
        ("= 3", "topics.toml", "not readable as TOML"),
    ],
)
def test_a_wrong_table_is_an_error_that_names_file_and_entry(tmp_path, text, named, problem):
    path = tmp_path / "topics.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=problem) as error:
        catalog.load(path)
    assert str(path) in str(error.value) and named in str(error.value)


def write_both(folder, decks, slide="A: s"):
    (folder / "topics.toml").write_text(LECTURE + TOPIC.replace('slide = "s"', f'slide = "{slide}"'))
    (folder / "decks.toml").write_text(decks)
    return folder / "topics.toml"


def test_a_slide_knows_its_topics_and_a_topic_its_slides(tmp_path):
    more = '[[slide]]\ndeck = "A"\ntitle = "Contents"\nnote = "01.1 follows."\n'
    decks = DECK + more + SLIDE + SLIDE.replace('"s"', '"t: u"') + more
    table = catalog.load(write_both(tmp_path, decks, "A: s | A: t: u"))
    assert [slide.id for slide in table.slides] == ["A: Contents", "A: s", "A: t: u", "A: Contents"]
    assert [[topic.id for topic in table.answers(slide)] for slide in table.slides] == [[], ["01.1"], ["01.1"], []]
    assert table.decks == (catalog.Deck("A", "T", "N", "P"),) and table.topics[0].slides == ("A: s", "A: t: u")


@pytest.mark.parametrize(
    ("decks", "file", "named", "problem"),
    [
        ("= 3", "decks.toml", "", "not readable as TOML"),
        ("[[deck]\n", "decks.toml", "", "not readable as TOML"),
        ("[[page]]\n", "decks.toml", "", "unknown table page; allowed are deck and slide"),
        (DECK + DECK + SLIDE, "decks.toml", "deck 'A'", "duplicate id"),
        (DECK.replace('"A"', '"F"') + SLIDE, "decks.toml", "deck 'F'", "id must be a letter A to E"),
        (DECK.replace('"A"', '"AB"') + SLIDE, "decks.toml", "deck 'AB'", "id must be a letter A to E"),
        (DECK.replace('authors = "N"\n', "") + SLIDE, "decks.toml", "deck 'A'", "missing key authors"),
        (DECK + "year = 2024\n" + SLIDE, "decks.toml", "deck 'A'", "unknown key year"),
        (DECK + SLIDE + "note = 3\n", "decks.toml", "slide 's'", "note has the wrong type"),
        (DECK + SLIDE + SLIDE, "decks.toml", "slide 'A: s'", "duplicate title"),
        (DECK + SLIDE + 'note = "n"\n' + SLIDE + 'note = "n"\n', "decks.toml", "slide 'A: s'", "duplicate title"),
        (DECK + SLIDE + SLIDE.replace('"s"', '"c"') * 2, "decks.toml", "slide 'A: c'", "duplicate title"),
        (DECK + SLIDE.replace('"A"', '"B"'), "decks.toml", "slide 'B: s'", "there is no deck 'B'"),
        (DECK + SLIDE + 'note = "see 01.1, 01.7"\n', "decks.toml", "slide 'A: s'", "there is no topic 01.7"),
        (DECK + SLIDE.replace('"s"', '"other"'), "topics.toml", "topic '01.1'", "decks.toml has no slide 'A: s'"),
    ],
)
def test_wrong_decks_are_an_error_that_names_file_and_entry(tmp_path, decks, file, named, problem):
    path = write_both(tmp_path, decks)
    with pytest.raises(ValueError, match=problem) as error:
        catalog.load(path)
    assert str(tmp_path / file) in str(error.value) and named in str(error.value)


def test_every_slide_of_the_decks_is_answered_or_noted():
    table = catalog.load(TABLE)
    assert [deck.id for deck in table.decks] == list(catalog.DECKS)
    assert {topic_slide for topic in table.topics for topic_slide in topic.slides} <= {s.id for s in table.slides}
    assert [slide.id for slide in table.slides if not slide.note and not table.answers(slide)] == []
    # In the order of the decks, and no note that says nothing.
    assert [slide.deck for slide in table.slides] == sorted(slide.deck for slide in table.slides)
    assert all(slide.note.endswith(".") and slide.note[0].isupper() for slide in table.slides if slide.note)


@pytest.fixture
def lectures(tmp_path):
    for name in ("01_first.ipynb", "02_second.ipynb", "notes.ipynb", "03_third.txt"):
        (tmp_path / name).write_text("{}")
    return tmp_path


@pytest.mark.parametrize("name", ["2", "02", "02_second", "02_second.ipynb", "{folder}/02_second.ipynb"])
def test_a_lecture_is_found_by_number_name_or_path(lectures, name):
    found = catalog.find(lectures, (name.format(folder=lectures),))
    assert [path.name for path in found] == ["02_second.ipynb"]


def test_all_lectures_by_default_in_the_order_of_the_course_and_once(lectures):
    assert [path.name for path in catalog.find(lectures)] == ["01_first.ipynb", "02_second.ipynb"]
    found = catalog.find(lectures, ("2", "01_first", "02"))
    assert [path.name for path in found] == ["01_first.ipynb", "02_second.ipynb"]


def test_an_unknown_lecture_is_an_error_that_lists_the_known_ones(lectures, tmp_path_factory):
    with pytest.raises(LookupError, match=r"no lecture '7'.*01, 02"):
        catalog.find(lectures, ("7",))
    with pytest.raises(LookupError, match="no lecture"):
        catalog.find(tmp_path_factory.mktemp("empty"))
    other = tmp_path_factory.mktemp("other") / "01_first.ipynb"
    other.write_text("{}")
    with pytest.raises(LookupError, match="same file name"):
        catalog.find(lectures, ("1", str(other)))
