import pytest

from pythia.corpus import read_corpus
from pythia.loading import load_model
from sensverify.errors import InputError

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def model(tiny_model_folder):
    return load_model(str(tiny_model_folder))


def test_windows_open_with_bos_and_hold_no_other(model, tiny_text):
    corpus = read_corpus(model, tiny_text, length=16)
    for windows in (corpus.search, corpus.held_out):
        assert (windows[:, 0] == model.bos).all()
        assert (windows[:, 1:] != model.bos).all()


def test_windows_are_the_text_and_nothing_else(model, tiny_text):
    corpus = read_corpus(model, tiny_text, length=16, limit=10_000)
    ids = [token for part in (corpus.search, corpus.held_out) for row in part for token in row[1:].tolist()]
    text = tiny_text.read_text()
    assert text.startswith(model.tokenizer.decode(ids))
    assert len(model.tokenizer(text)["input_ids"]) == len(ids) + corpus.dropped_tokens


def test_search_and_evaluation_share_no_window(model, tiny_text):
    corpus = read_corpus(model, tiny_text, length=16)
    search = {tuple(row) for row in corpus.search.tolist()}
    assert not search & {tuple(row) for row in corpus.held_out.tolist()}


def test_form_feeds_separate_documents(model, tmp_path, tiny_text):
    path = tmp_path / "two.txt"
    path.write_text(tiny_text.read_text() + "\n\f\n" + tiny_text.read_text())
    assert read_corpus(model, path, length=16).documents == 2


def test_a_limit_takes_a_sample_fixed_by_the_seed(model, tiny_text):
    first, again, other = (read_corpus(model, tiny_text, length=16, limit=20, seed=seed).search for seed in (1, 1, 2))
    assert len(first) == 20
    assert first.equal(again)
    assert not first.equal(other)


@pytest.mark.parametrize("content", [b"", b"  \n\n ", b"a few words"])
def test_empty_or_short_text_is_refused(model, tmp_path, content):
    path = tmp_path / "short.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"expected .*text"):
        read_corpus(model, path)


def test_bytes_that_are_not_utf8_are_refused(model, tmp_path):
    path = tmp_path / "latin.txt"
    path.write_bytes(b"caf\xe9 " * 1000)
    with pytest.raises(InputError, match="UnicodeDecodeError"):
        read_corpus(model, path)


def test_a_context_longer_than_the_model_is_refused(model, tiny_text):
    with pytest.raises(InputError, match="a context length from 4 to 64"):
        read_corpus(model, tiny_text, length=65)
