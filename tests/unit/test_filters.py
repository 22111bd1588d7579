"""The filter language."""

from __future__ import annotations

import pytest

from cored.errors import InvalidArgument
from cored.filters import parse

RECORD = {
    ("name",): "docker.io/library/debian:bookworm",
    ("kind",): "active",
    ("labels", "a.b/c"): "x",
    ("labels", "plain"): "with space",
    ("target", "digest"): "sha256:abc",
}


@pytest.mark.parametrize(
    ("filters", "matches"),
    [
        ([], True),
        ([""], True),
        (["kind==active"], True),
        (["kind==view"], False),
        (["kind!=view"], True),
        (["absent!=view"], True),
        (["name~=^docker.io/"], True),
        (['name~="bookworm$"'], True),
        (["name~=|^docker|"], True),
        (["name~=/jessie/"], False),
        (["kind"], True),
        (["absent"], False),
        (['labels."a.b/c"==x'], True),
        (['labels."a.b/c"==y'], False),
        (['labels.plain=="with space"'], True),
        (["kind==active,labels.plain"], True),
        (["kind==active,absent"], False),
        (["kind==view", "target.digest==sha256:abc"], True),
        (['labels.plain=="\\x77ith space"'], True),
        (["absent~=^$"], True),
        (["absent~=."], False),
        (["name~=/\\\\w+$/"], True),
        (['name~="^docker\\\\.io"'], True),
        (["name~=|a\\|debian|"], True),
        ([" kind\t== active, labels.plain"], True),
        (['labels.plain!=a"b'], True),
        (["name~=.*"], True),
    ],
)
def test_filters_match(filters: list[str], matches: bool) -> None:
    assert parse(filters).match(RECORD.get) is matches


@pytest.mark.parametrize(
    "text",
    [
        *(
            "=",
            "kind=active",
            "kind==a b",
            "kind==active,",
            ".kind",
            'labels."a',
            "name~=[",
            "!",
            " ",
        ),
        *("kind==", "kind===active", "kind=!active", "kind ,name", "kind==active ", "name~=/\\d/"),
        *('kind=="\\q"', 'kind=="a\nb"', 'kind=="\\U00110000"', 'kind=="a"b', "kind==a\0b"),
    ],
)
def test_nonsense_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"filter .* position \d+"):
        parse([text])
