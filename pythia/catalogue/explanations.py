"""What directions are about, told without a language model: PY-5 and PY-6."""

from sensverify.claims import Claim, FalseTwin
from sensverify.verdicts import Status

CLAIMS = (
    Claim(
        id="PY-5",
        statement=(
            "A rule about tokens, fitted on half of the contexts, tells in the other half where a found direction is "
            "strongly present better than such rules do for the directions of a sparse autoencoder and for random ones."
        ),
        formula=(
            r"\overline{A}(\text{found}) > \overline{A}(\text{SAE}), \qquad "
            r"\overline{A}(\text{found}) > \overline{A}(\text{random}), \qquad "
            r"A = \tfrac12\left(\tfrac{\text{hits}}{\text{strong}} + \tfrac{\text{quiet}}{\text{others}}\right)"
        ),
        hypotheses=(
            "strongly present: the highest 5 % of presences at held-out positions but BOS, at the end of positive "
            "presence for every group",
            "one search over the same rules for every direction, each charged for the length of its rule",
            "intervals over windows and directions, corrected for the two comparisons; found above random is predicted "
            "by the toy models, found above SAE is the order that the theory states",
        ),
        source="THEORY PY-5; Stambler 2025 (published with explanations by a language model)",
        expected=Status.INCONCLUSIVE,
        check="pythia.explained:check_found_are_detected_better",
        false_twins=(
            FalseTwin(
                statement=(
                    "Found directions with their presences moved to other contexts are told better than SAE, random "
                    "and found ones."
                ),
                check="pythia.explained:check_moved_presences",
            ),
        ),
        preflight="pythia.explained:preflight",
    ),
    Claim(
        id="PY-6",
        statement=(
            "Directions found on a copy with shuffled weights are mostly single-token: the current token alone "
            "explains more than half of the variance of their presence, and more than it does for the directions "
            "found on the model itself."
        ),
        formula=r"\operatorname{median} R^2_{\text{copy}} > \tfrac12, \qquad "
        r"\overline{R^2}_{\text{copy}} > \overline{R^2}_{\text{model}}",
        hypotheses=(
            "entries of every weight matrix permuted, biases and norms kept; the same search on the copy",
            "variance explained on held-out windows by the token's mean presence in the others, at positions whose "
            "token those have twice or more; nothing is concluded where these are less than half of all",
            "of random directions on the copy the token explains about as much: the claim is about the stream of a "
            "shuffled model, not about what a search finds in it",
            "each direction in the activations of the model that it was found on",
        ),
        source="THEORY PY-6; Bricken et al. 2023 (randomised model as a control)",
        expected=Status.SUPPORTED,
        check="pythia.single_token:check_shuffled_directions",
        false_twins=(
            FalseTwin(
                statement="The token at the same position of another window decides their presence as well.",
                check="pythia.single_token:check_tokens_of_other_windows",
            ),
        ),
        preflight="pythia.single_token:preflight",
    ),
)
