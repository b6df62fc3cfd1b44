"""A transformer with planted features (TM-8)."""

from __future__ import annotations

from sensverify.claims import Claim, FalseTwin
from sensverify.verdicts import Status

_MODEL = (
    "GPT-NeoX of 3 blocks, d = 96: n = 64 random unit features in a subspace A of 31 dimensions; each of 512 tokens "
    "has 1 to 8 of them and 10 % noise; tokens independent and uniform"
)
_PATH = (
    "block 1's only head copies A of the token before to a subspace B; block 2 has a ReLU unit for each feature there, "
    "which writes to a subspace C: effects reach later positions through attention alone"
)
_SITE = "intervention after block 0 at p, α ~ U(0, 7/8), read-out after block 2 at p + 1"
_SEEDS = "3 models or more, each judged by itself; the configuration was fixed on other seeds"
_POOLED = (
    "3 models or more; interval of their mean, and SUPPORTED only if every model is on the right side too; "
    "configuration and searches were fixed on other seeds"
)
_SEARCH = "24 directions at once, 100 steps of 32 contexts, repulsion, no sparsity term; the same for all scores"
_CONTROL = "refuted only if the same judge finds the claim true of the search of TM-8.peak (positive control)"
_SOURCE = "THEORY TM-8; Stambler 2025; Biderman et al. 2023 (architecture); Elhage et al. 2022 (superposition)"
_RECOVERED = r"\frac{1}{K} \#\{k : \max_i \langle s_k, f_i \rangle \geq 0.9\} > \tfrac12"
_RANDOM_RECOVERS = FalseTwin(
    statement="Random directions of A recover planted features just as well.",
    check="toy_models.planted_recovery:check_recovery_by_random",
)

claims = (
    Claim(
        id="TM-8",
        statement="In a transformer, planted features are more sensitive than random directions, of the residual "
        "stream and of the very subspace that attention carries.",
        formula=r"\overline{\mathrm{SeS}}^{1}_{0 \rightsquigarrow 2}(f_i) > \overline{\mathrm{SeS}}^{1}_{0 "
        r"\rightsquigarrow 2}(s), \quad s \in \mathbb{R}^d \text{ or } s \in A \text{ random}",
        hypotheses=(_MODEL, _PATH, _SITE, _SEEDS),
        source=_SOURCE,
        expected=Status.SUPPORTED,
        check="toy_models.planted:check_sensitivity",
        false_twins=(
            FalseTwin(
                statement="Directions that attention does not carry are more sensitive than random ones.",
                check="toy_models.planted:check_sensitivity_of_the_uncarried",
            ),
            FalseTwin(
                statement="The same holds with the attention's value path cut.",
                check="toy_models.planted:check_sensitivity_without_attention",
            ),
            FalseTwin(
                statement="The same holds two tokens later.",
                check="toy_models.planted:check_sensitivity_two_tokens_later",
            ),
        ),
    ),
    Claim(
        id="TM-8.plain",
        statement="Most directions found by maximising plain sensitivity are planted features, at cosine 0.9.",
        formula=_RECOVERED,
        hypotheses=(
            _MODEL,
            _PATH,
            _SITE,
            "score SeS of the residual stream, reference f_b(x)",
            _SEARCH,
            _CONTROL,
            _POOLED,
        ),
        source=_SOURCE,
        expected=Status.REFUTED,
        check="toy_models.planted_recovery:check_plain_recovery",
        false_twins=(_RANDOM_RECOVERS,),
    ),
    Claim(
        id="TM-8.selective",
        statement="Most directions found by maximising the concentration of the effect on ReLU units, whatever its "
        "size, are planted features, at cosine 0.9.",
        formula=_RECOVERED,
        hypotheses=(
            _MODEL,
            _PATH,
            _SITE,
            "score E‖Δ‖₄⁴/E‖Δ‖₂⁴ on the 64 units, reference f_b(I_s^0(x))",
            _SEARCH,
            _CONTROL,
            _POOLED,
        ),
        source=f"{_SOURCE}; SE-5",
        expected=Status.REFUTED,
        check="toy_models.planted_recovery:check_selective_recovery",
        false_twins=(_RANDOM_RECOVERS,),
    ),
    Claim(
        id="TM-8.peak",
        statement="Most directions found by maximising large effects on few ReLU units are planted features, at cosine "
        "0.9.",
        formula=_RECOVERED,
        hypotheses=(
            _MODEL,
            _PATH,
            _SITE,
            "score E‖Δ‖₄⁴ on the 64 units, reference f_b(I_s^0(x))",
            _SEARCH,
            _POOLED,
        ),
        source=f"{_SOURCE}; SE-5",
        expected=Status.SUPPORTED,
        check="toy_models.planted_recovery:check_peak_recovery",
        false_twins=(
            _RANDOM_RECOVERS,
            FalseTwin(
                statement="What is found in one model are the features planted in another.",
                check="toy_models.planted_recovery:check_recovery_of_another_model",
            ),
        ),
    ),
    Claim(
        id="TM-8.sparse",
        statement="The search of TM-8.peak finds most of its directions at planted features, at cosine 0.9, also where "
        "tokens have at most 3 of them and units fire only above a presence of 0.4.",
        formula=_RECOVERED,
        hypotheses=(
            _MODEL,
            f"{_PATH}; but for 1 to 3 features in a token, and thresholds 0.4 where the model of TM-8.peak has 0.2",
            _SITE,
            "score and reference as in TM-8.peak",
            _SEARCH,
            "refuted only if most directions of a search with score E‖max(0, Δ)‖₄⁴ are planted features in the same "
            "models with the same budget; beside it stands the search of TM-8.peak started at activations",
            _POOLED,
        ),
        source=f"{_SOURCE}; SE-5",
        expected=Status.REFUTED,
        check="toy_models.planted_recovery:check_recovery_of_sparse_features",
        false_twins=(
            FalseTwin(
                statement="Most random directions of A are planted features of these very models.",
                check="toy_models.planted_recovery:check_sparse_recovery_by_random",
            ),
        ),
    ),
    Claim(
        id="TM-8.carried",
        statement="A direction that attention does not carry acts on later positions by shrinking what attention does "
        "carry and in no other way, and searches for large effects find directions that are carried.",
        formula=r"s \perp A:\ P_A I_s^{\alpha}(x) = \sqrt{\tfrac{1-\alpha^2}{1-\rho^2}}\, P_A x; \qquad "
        r"\tfrac{1}{K}\textstyle\sum_k \|P_A s_k\|^2 \geq 0.9",
        hypotheses=(
            _MODEL,
            _PATH,
            _SITE,
            "the searches of TM-8.plain, with either reference, and of TM-8.peak; that of TM-8.selective does not "
            "see size and is left out",
            _POOLED,
        ),
        source=f"{_SOURCE}; RN-3",
        expected=Status.SUPPORTED,
        check="toy_models.planted:check_carried",
        false_twins=(
            FalseTwin(
                statement="Planted features act by shrinkage alone.",
                check="toy_models.planted:check_planted_act_by_shrinkage",
            ),
            FalseTwin(
                statement="Random directions are carried as much as those that are found.",
                check="toy_models.planted:check_random_directions_are_carried",
            ),
        ),
    ),
    Claim(
        id="TM-8.sae",
        statement="Directions of a sparse autoencoder, which has never seen an effect, are at least 1.5 times as "
        "sensitive as random directions, where features are sparse and in a transformer.",
        formula=r"\overline{\mathrm{SeS}}(w_j) \geq 1.5\, \overline{\mathrm{SeS}}(s), \quad w_j \text{ decoder rows}",
        hypotheses=(
            "the models of TM-1 and those of TM-8",
            "TopK autoencoders on 4,096 activations, told how many features there are and how many are active; latents "
            "that never fire are left out",
            _SEEDS,
        ),
        source="THEORY TM-1, TM-8, PY-3; Stambler 2025; Gao et al. 2024 (TopK)",
        expected=Status.SUPPORTED,
        check="toy_models.sae_sensitivity:check_directions_of_autoencoders",
        false_twins=(
            FalseTwin(
                statement="Random directions are as well.",
                check="toy_models.sae_sensitivity:check_random_directions",
            ),
        ),
    ),
    Claim(
        id="TM-8.stable",
        statement="Searches from different seeds find the same directions more than random sets with their second "
        "moment are the same: matched one to one, their absolute cosines have come at least a fortieth of the way from "
        "those of such sets to 1, where features are sparse and in a transformer.",
        formula=r"\frac{\bar c - \bar c_0}{1 - \bar c_0} \geq \tfrac1{40}",
        hypotheses=(
            "three searches for plain sensitivity on each model: of TM-2, 64 directions where there are 512 features; "
            "of TM-8.plain, 24 where there are 64",
            "matched by Hungarian assignment on absolute cosines; c₀: random sets of as many directions, with the "
            "second moment of what the three searches found, matched alike",
            _SEEDS,
        ),
        source="THEORY TM-2, TM-8, PY-4",
        expected=Status.SUPPORTED,
        check="toy_models.stability:check_stability",
        false_twins=(
            FalseTwin(
                statement="Random sets of directions are the same by as much.",
                check="toy_models.stability:check_random_sets",
            ),
            FalseTwin(
                statement="So are random sets with the second moment of what was found.",
                check="toy_models.stability:check_sets_of_the_same_moment",
            ),
            FalseTwin(
                statement="On all of these models searches come at least half of the way: also where there are eight "
                "times as many features as directions are asked for.",
                check="toy_models.stability:check_nearer_to_the_same",
            ),
        ),
    ),
    Claim(
        id="TM-8.swaps",
        statement="Giving an activation the direction of another moves the next-token distribution more than giving it "
        "the other's norm, and more than halving its norm; so does a turn as long as the difference of norms.",
        formula=r"\mathrm{median}\, \frac{\mathrm{KL}(p(x) \,\|\, p(\|x\| \hat y))}"
        r"{\mathrm{KL}(p(x) \,\|\, p(\|y\| \hat x))} > 1",
        hypotheses=(
            _MODEL,
            _PATH,
            "swaps after block 1, felt at the same position; partners from different windows at the same position; "
            "directions and norms after centring",
            "not after block 0: what a token is there is read one token later",
            _SEEDS,
        ),
        source="THEORY PY-2; Stambler 2025 (relative-norm hypothesis); claim LN-6",
        expected=Status.SUPPORTED,
        check="toy_models.swapping:check_swaps",
        false_twins=(
            FalseTwin(
                statement="Swapping norms moves it more than swapping directions.",
                check="toy_models.swapping:check_opposite_order",
            ),
            FalseTwin(
                statement="Giving an activation its own direction moves it more than giving it another's norm.",
                check="toy_models.swapping:check_own_direction",
            ),
        ),
    ),
    Claim(
        id="TM-8.published",
        statement="Of the published score of random directions, same token, one block later, at least a third is there "
        "at the null rotation, where nothing is rotated, if activations have norm √d.",
        formula=r"\frac{\mathbb{E}\, D(F(x), F(x / \|x\|))}"
        r"{\mathbb{E}\, D(F(x), F(I_s^\alpha(x) / \|x\|))} \geq \tfrac13",
        hypotheses=(
            f"{_MODEL}; embedding and what blocks add multiplied by √d, which changes no prediction up to the norms' ε",
            "after block 0, read after block 1, and after block 1, read after block 2; α ~ U(0, 7/8)",
            _SEEDS,
        ),
        source="THEORY SE-2 and PY-10; the research code published with the sensitivity hypothesis",
        expected=Status.SUPPORTED,
        check="toy_models.published_score:check_published",
        false_twins=(
            FalseTwin(
                statement="So is at least a third of our score.",
                check="toy_models.published_score:check_ours",
            ),
            FalseTwin(
                statement="So it is where the stream is written as short as it was planted, and the same is computed.",
                check="toy_models.published_score:check_short_streams",
            ),
            FalseTwin(
                statement="So it is one token later.",
                check="toy_models.published_score:check_next_token",
            ),
        ),
    ),
    Claim(
        id="TM-8.rules",
        statement="Where the stream carries two tokens and one of them is read, rules about tokens tell where found "
        "directions are strongly present better, by three points of balanced accuracy or more, than where random "
        "directions are.",
        formula=r"\overline{A}(\text{found}) - \overline{A}(\text{random}) \geq 0.03",
        hypotheses=(
            _MODEL,
            _PATH,
            "directions after block 1, found by plain sensitivity for what block 2 makes of them at the same position",
            "accuracy A, rules and halves of the text as in PY-5; the names of tokens tell nothing but which they are",
            _SEEDS,
        ),
        source="THEORY PY-5; Stambler 2025 (interpretability of directions)",
        expected=Status.SUPPORTED,
        check="toy_models.two_tokens:check_rules",
        false_twins=(
            FalseTwin(
                statement="So they do with presences moved to other windows.",
                check="toy_models.two_tokens:check_moved_presences",
            ),
            FalseTwin(
                statement="So they do after block 0, where the stream carries one token.",
                check="toy_models.two_tokens:check_one_token",
            ),
        ),
    ),
    Claim(
        id="TM-8.shuffled",
        statement="On a copy with shuffled weights, found directions are mostly single-token: the current token "
        "explains more than half of the variance of their presence, and more than it does on the model itself.",
        formula=r"\operatorname{median} R^2_{\text{copy}} > \tfrac12, \qquad "
        r"\overline{R^2}_{\text{copy}} > \overline{R^2}_{\text{model}}",
        hypotheses=(
            _MODEL,
            _PATH,
            "entries of every matrix permuted, biases and norms kept; the site and the search of TM-8.rules",
            "after block 0 the token decides every presence on model and copy alike",
            "scored are positions whose token the fitting half of the text has twice or more, at least half of all",
            _SEEDS,
        ),
        source="THEORY PY-6; Bricken et al. 2023 (randomised model as a control)",
        expected=Status.SUPPORTED,
        check="toy_models.two_tokens:check_shuffled",
        false_twins=(
            FalseTwin(
                statement="The token at the same position of another window explains it as well.",
                check="toy_models.two_tokens:check_tokens_of_other_windows",
            ),
        ),
    ),
)
