"""What the token alone decides of a presence, on tables where the share is planted."""

import pytest
import torch

from sensverify.token_identity import largest_token_share, token_identity

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
    assert float(token_identity(unique, presence, torch.Generator().manual_seed(7)).explained()[0]) <= 1e-9


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
