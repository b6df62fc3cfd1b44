"""What the token alone decides of a presence, on tables where the share is planted."""

import pytest
import torch

from sensverify.token_identity import TokenIdentity, largest_token_share, token_identity

WINDOWS, LENGTH, TOKENS = 200, 30, 12


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(TOKENS, (WINDOWS, LENGTH), generator=torch.Generator().manual_seed(0))


def drawn(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8, 1.0])
def test_the_planted_share_of_variance_is_measured(tokens, share):
    by_token = drawn(TOKENS, seed=1)
    by_token = (by_token - by_token[tokens].mean()) / by_token[tokens].std()
    presence = share**0.5 * by_token[tokens] + (1 - share) ** 0.5 * drawn(WINDOWS, LENGTH, seed=2)
    measured = token_identity(tokens, presence[None] * 0.01 - 0.4, torch.Generator().manual_seed(3)).explained()
    assert float(measured[0]) == pytest.approx(share, abs=0.03)


def test_the_token_before_is_not_the_token(tokens):
    presence = drawn(TOKENS, seed=4)[tokens.roll(1, 1)]
    assert float(token_identity(tokens, presence[None], torch.Generator().manual_seed(5)).explained()[0]) < 0.02


def test_tokens_seen_once_explain_nothing_held_out():
    """As many tokens as positions: in the sample they would explain everything."""
    unique = torch.arange(WINDOWS * LENGTH).view(WINDOWS, LENGTH)
    presence = drawn(1, WINDOWS, LENGTH, seed=6)
    identity = token_identity(unique, presence, torch.Generator().manual_seed(7))
    assert float(identity.explained()[0]) == 0
    assert identity.coverage == 0
    assert not identity.covered


@pytest.mark.parametrize("windows", [8, 39, 256])
def test_where_the_token_decides_everything_short_texts_say_so_too(windows):
    """Words as frequent as those of a language: a third of a short text's tokens are in the other half at most once."""
    generator = torch.Generator().manual_seed(30)
    frequencies = 1 / torch.arange(1, 4001, dtype=torch.float64)
    tokens = torch.multinomial(frequencies, windows * 64, replacement=True, generator=generator).view(windows, 64)
    presence = torch.randn(20, 4000, generator=generator)[:, tokens]
    identity = token_identity(tokens, presence, torch.Generator().manual_seed(31))
    assert float(identity.explained().median()) > 0.93
    assert identity.coverage < 0.9
    shuffled = tokens.flatten()[torch.randperm(tokens.numel(), generator=generator)].view_as(tokens)
    assert float(token_identity(shuffled, presence, torch.Generator().manual_seed(31)).explained().median()) < 0.05


def test_the_coverage_is_the_share_of_counted_positions_whose_token_the_other_half_has_twice(tokens):
    rare = tokens.clone()
    rare[:, : LENGTH // 3] = 1000 + torch.arange(WINDOWS * (LENGTH // 3)).view(WINDOWS, -1)  # each stands once
    presence = drawn(TOKENS, seed=32)[tokens][None]
    counted = torch.ones(WINDOWS, LENGTH, dtype=torch.bool)
    all_of_them = token_identity(rare, presence, torch.Generator().manual_seed(33), counted)
    assert all_of_them.coverage == pytest.approx(2 / 3)
    assert float(all_of_them.explained()) > 0.99
    counted[:, LENGTH // 2 :] = False  # fifteen are left, ten of them rare
    fewer = token_identity(rare, presence, torch.Generator().manual_seed(33), counted)
    assert fewer.coverage == pytest.approx(1 / 3)
    assert all_of_them.covered
    assert not fewer.covered


def test_a_token_has_to_be_counted_twice_and_not_only_to_stand_there():
    tokens = torch.zeros(6, 4, dtype=torch.long)
    counted = torch.zeros(6, 4, dtype=torch.bool)
    counted[:, 0] = True
    presence = drawn(1, 6, 4, seed=34)
    assert token_identity(tokens, presence, torch.Generator().manual_seed(0), counted).coverage == 1
    order = torch.randperm(6, generator=torch.Generator().manual_seed(0))
    counted[order[1:3]] = False  # of the three windows that are fitted, two
    assert token_identity(tokens, presence, torch.Generator().manual_seed(0), counted).coverage == 0


def test_what_is_joined_is_covered_as_the_least_of_its_parts(tokens):
    first = token_identity(tokens, drawn(2, WINDOWS, LENGTH, seed=35), torch.Generator().manual_seed(36))
    second = TokenIdentity(error=first.error, total=first.total, coverage=0.4)
    joined = TokenIdentity.joined([first, second])
    expected = [*first.explained().tolist(), *second.explained().tolist()]
    assert joined.explained().tolist() == pytest.approx(expected)
    assert joined.coverage == 0.4
    assert not joined.covered


def test_weights_of_windows_are_as_windows_given_again(tokens):
    presence = drawn(2, WINDOWS, LENGTH, seed=8) + drawn(TOKENS, seed=9)[tokens]
    identity = token_identity(tokens, presence, torch.Generator().manual_seed(10))
    weights = torch.zeros(1, identity.error.shape[1], dtype=torch.float64)
    weights[0, :3] = torch.tensor([2.0, 1.0, 1.0], dtype=torch.float64)
    rows = [0, 0, 1, 2]
    expected = 1 - identity.error[:, rows].sum(1) / identity.total[:, rows].sum(1)
    assert identity.explained(weights)[0].tolist() == pytest.approx(expected.tolist())


def test_the_largest_share_of_one_token_at_the_peaks(tokens):
    presence = torch.zeros(2, WINDOWS, LENGTH)
    presence[0] = (tokens == 4).float()
    # fifteen of the twenty highest windows peak at token 4, five at token 5
    presence[1] = 0.01 * torch.rand(WINDOWS, LENGTH, generator=torch.Generator().manual_seed(11))
    for count, token, start in ((15, 4, 0), (5, 5, 100)):
        windows = [w for w in range(start, start + 90) if (tokens[w] == token).any()][:count]
        for window in windows:
            presence[1, window, int((tokens[window] == token).nonzero()[0])] = 1.0
    assert largest_token_share(tokens, presence, 20).tolist() == pytest.approx([1.0, 0.75])


def test_shapes_that_do_not_fit_are_refused(tokens):
    with pytest.raises(ValueError, match="presences"):
        token_identity(tokens, torch.zeros(1, WINDOWS, LENGTH + 1), torch.Generator())


def test_positions_that_do_not_count_change_nothing(tokens):
    counted = drawn(WINDOWS, LENGTH, seed=20) > 0
    presence = drawn(TOKENS, seed=21)[tokens] + 0.1 * drawn(WINDOWS, LENGTH, seed=22)
    planted = torch.where(counted, presence, 50 * drawn(WINDOWS, LENGTH, seed=23))
    clean, other, all_of_them = (
        token_identity(tokens, rho[None], torch.Generator().manual_seed(24), which).explained()
        for rho, which in ((presence, counted), (planted, counted), (planted, None))
    )
    assert torch.equal(clean, other)
    assert float(clean) > 0.95
    assert float(all_of_them) < 0.2
    one = presence.masked_fill(tokens == 3, 9.0)
    high = torch.where(counted, one, 50.0)
    assert float(largest_token_share(tokens, high[None], 10, counted)) == 1
    assert float(largest_token_share(tokens, high[None], 10)) < 1
