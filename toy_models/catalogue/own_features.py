"""Features planted by anyone, in a folder of their own (TM-9.planted)."""

from __future__ import annotations

from sensverify.claims import Claim, FalseTwin, Status

claims: tuple[Claim, ...] = (
    Claim(
        id="TM-9.planted",
        statement=(
            "Features that somebody plants at directions of their own in a toy model folder are found by a search that "
            "sees only effects: peak sensitivity from presence 0, in four rounds with a direction for each feature, "
            "recovers at least 80 % of those sought at cosine 0.9, sparse or dense, with a threshold or without."
        ),
        formula=(
            r"\#\{i : \langle s_{\pi(i)}, w_i \rangle \geq 0.9\} \geq 0.8\,m, \quad m = \min(n, K/4), \qquad "
            r"s_k \text{ found from } f(I_s^\alpha(x)) - f(I_s^0(x)) \text{ alone}"
        ),
        hypotheses=(
            "with --model FOLDER, a folder that holds toy.json and toy.safetensors: the model in it, and three seeds "
            "of search; the interval is that of their mean, searches and features resampled",
            "otherwise n = 64 random unit features in d = 32 dimensions, read by themselves and not trained, written "
            "to such folders and loaded back: p = 0.05 with threshold 0.1 and p = 0.4 without, and in the full profile "
            "the other two as well; the interval is that of the mean over models, models and features resampled",
            "each round divides every unit by the largest effect on it of any direction found so far: without that, "
            "features that are read more strongly hide the others (seen while developing, judged nowhere: 60 features "
            "in 30 dimensions, p = 0.1, threshold 0.05, three models: one search with two directions per feature "
            "recovers 0.95 [0.91, 0.98] of features "
            "whose lengths spread by 10 %, 0.61 [0.52, 0.69] at 30 % and 0.78 [0.72, 0.84] of Gaussian ones; four "
            "rounds 180 of 180 of each, [0.98, 1])",
            "what is found is what units read: where that is not what features write, features are not found (seen: of "
            "48 in 24 dimensions, with the pseudo-inverse as readout, none, but 47 of the 48 directions read)",
            "each feature needs a direction of its own; of more than 181 features as many are sought as a round has "
            "directions, 32768/n",
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
