"""Features planted by anyone, in a folder of their own (TM-9.planted)."""

from __future__ import annotations

from sensverify.claims import Claim, FalseTwin, Status

claims: tuple[Claim, ...] = (
    Claim(
        id="TM-9.planted",
        statement=(
            "Features that somebody plants at directions of their own in a toy model folder are found by a search that "
            "sees only effects: peak sensitivity from presence 0, with two directions per feature, recovers at least "
            "80 % of those sought at cosine 0.9, sparse or dense, with a threshold or without."
        ),
        formula=(
            r"\#\{i : \langle s_{\pi(i)}, w_i \rangle \geq 0.9\} \geq 0.8\,m, \quad m = \min(n, K/2), \qquad"
            r"s_k \text{ found from } f(I_s^\alpha(x)) - f(I_s^0(x)) \text{ alone}"
        ),
        hypotheses=(
            "with --model FOLDER, a folder that holds toy.json and toy.safetensors: the model in it, and three seeds "
            "of search; the interval is that of their mean, searches and features resampled",
            "otherwise n = 64 random unit features in d = 32 dimensions, read by themselves and not trained, written "
            "to such folders and loaded back: p = 0.05 with threshold 0.1 and p = 0.4 without, and in the full profile "
            "the other two as well; the interval is that of the mean over models, models and features resampled",
            "features of about equal length: strongly written ones hide from the search those written half as strongly",
            "each feature needs a direction of its own; of more than 128 features as many are sought as there are "
            "pairs among 32768/n directions",
            "the budget was chosen on other seeds than those judged",
        ),
        source="THEORY TM-9, SE-5",
        expected=Status.SUPPORTED,
        check="toy_models.own_features:check_planted",
        preflight="toy_models.own_features:preflight",
        false_twins=(
            FalseTwin(
                statement="In the dense models that the suite plants random directions recover as much.",
                check="toy_models.own_features:twin_random",
            ),
            FalseTwin(
                statement="In the dense models that the suite plants plain sensitivity recovers as much.",
                check="toy_models.own_features:twin_plain",
            ),
            FalseTwin(
                statement="Directions found on the dense model of one seed are the features of another one.",
                check="toy_models.own_features:twin_another",
            ),
        ),
    ),
)
