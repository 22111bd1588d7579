"""Names, labels and field masks of records."""

from __future__ import annotations

import pytest

from cored.abc.records import Container
from cored.errors import InvalidArgument
from cored.metadata.fields import merged
from cored.metadata.names import check_identifier, check_labels, check_namespace

OLD = Container("c", labels={"a.b": "1", "keep": "2"}, image="old", runtime="r")
MUTABLE = ("labels", "image")


@pytest.mark.parametrize("name", ["a", "default", "k8s.io", "A-1_b.c", "x" * 76])
def test_good_names_pass(name: str) -> None:
    check_namespace(name)


@pytest.mark.parametrize("name", ["", "-a", "a-", "a..b", "a b", "a/b", "ä", "x" * 77, "a\n"])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidArgument):
        check_identifier("container", name)


def test_labels_have_a_size() -> None:
    check_labels("x", {"k": "v" * 4095})
    with pytest.raises(InvalidArgument, match="4097 bytes"):
        check_labels("x", {"k": "v" * 4096})


def test_no_paths_replace_all_that_can_be() -> None:
    new = merged("c", OLD, Container("c", image="new"), (), MUTABLE)
    assert (new.image, new.labels, new.runtime) == ("new", {}, "r")


def test_a_label_keeps_the_dots_of_its_key() -> None:
    wanted = Container("c", labels={"a.b": "changed", "other": "not asked for"})
    assert merged("c", OLD, wanted, ["labels.a.b"], MUTABLE).labels == {
        "a.b": "changed",
        "keep": "2",
    }


def test_a_label_that_is_absent_is_removed() -> None:
    assert merged("c", OLD, Container("c"), ["labels.keep"], MUTABLE).labels == {"a.b": "1"}


def test_what_cannot_change_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="runtime"):
        merged("c", OLD, OLD, ["runtime"], MUTABLE)
