(** Sets that miss a value: the logarithmic bound, from nothing but Coq and its standard library.

    The points are the numbers 0 … n−1, the three values are 0, 1, 2, and F is symmetric, diagonal included.
    A list S of points misses y if F a b <> y for all a and b in S, a = b included. What is proved:

    - [missing_value]            3·4^k points have k that miss a value;
    - [missing_value_power]      so have 3·4^(k−1) − 2 points, k ≥ 1 (here k = j + 1, as below);
    - [missing_value_factorial]  so have 3C(2k−2, k−1) − 2 points, the binomial coefficient given by factorials;
    - [missing_value_logarithm]  n ≥ 1 points have 1 + ⌊½ log₂ ⌈n/3⌉⌋ that miss a value;
    - [erdos_szekeres]           Ramsey's theorem for two colours, with the bound C(a+b, a) for sizes a+1 and b+1;
    - [symmetry_is_needed]       without F a b = F b a the first statement is false;
    - [constant_is_too_much]     with "F is constant on S" in place of "S misses a value" it is false.

    The way: one of three values has a third of the diagonal; there, colour each pair by whether F has one of
    the other two values on it; a one-coloured set misses the third value, or this one.

    Compile with: coqc -Q . Colourings MissingValue.v *)

From Coq Require Import Arith List Lia Bool Factorial.
Import ListNotations.

(** * 1. Binomial coefficients

    By Pascal's rule, so that the Ramsey recursion is the very definition; shown equal to the factorials. *)

Fixpoint binom (n k : nat) : nat :=
  match n, k with
  | _, 0 => 1
  | 0, S _ => 0
  | S n', S k' => binom n' k' + binom n' (S k')
  end.

Lemma binom_above : forall n k, n < k -> binom n k = 0.
Proof.
  induction n; intros [|k] H; simpl; try lia.
  rewrite !IHn; lia.
Qed.

Lemma binom_diagonal : forall n, binom n n = 1.
Proof.
  induction n; simpl; [reflexivity|]. rewrite IHn, binom_above; lia.
Qed.

Theorem binom_is_the_binomial_coefficient :
  forall a b, binom (a + b) a * (fact a * fact b) = fact (a + b).
Proof.
  intros a b. remember (a + b) as n eqn:E. revert a b E.
  induction n; intros [|a] [|b] E; try discriminate; try reflexivity.
  - rewrite E. change (1 * (1 * fact (S b)) = fact (S b)). lia.
  - replace (S a) with (S n) by lia. rewrite binom_diagonal. change (fact 0) with 1. lia.
  - pose proof (IHn a (S b) ltac:(lia)) as H1. pose proof (IHn (S a) b ltac:(lia)) as H2.
    change (binom (S n) (S a)) with (binom n a + binom n (S a)).
    transitivity (S a * fact n + S b * fact n).
    2: { change (fact (S n)) with (S n * fact n). replace (S n) with (S a + S b) by lia. ring. }
    rewrite <- H1 at 1. rewrite <- H2.
    change (fact (S a)) with (S a * fact a). change (fact (S b)) with (S b * fact b). ring.
Qed.

Lemma binom_positive : forall n k, k <= n -> 1 <= binom n k.
Proof.
  induction n; intros [|k] H; simpl; try lia. pose proof (IHn k ltac:(lia)). lia.
Qed.

Lemma binom_at_most_power : forall n k, binom n k <= 2 ^ n.
Proof.
  induction n; intros [|k]; simpl; try lia.
  - pose proof (IHn 0). destruct n; simpl in *; lia.
  - pose proof (IHn k). pose proof (IHn (S k)). lia.
Qed.

(** * 2. Ramsey's theorem for two colours

    The pairs of a list without repetitions are coloured by a symmetric c; a set is one-coloured if all its
    pairs of different elements have the colour v. *)

Definition one_coloured {A} (c : A -> A -> bool) (v : bool) (S : list A) : Prop :=
  forall x y, In x S -> In y S -> x <> y -> c x y = v.

Lemma filter_splits : forall A (f : A -> bool) (L : list A),
  length (filter f L) + length (filter (fun x => negb (f x)) L) = length L.
Proof.
  induction L as [|x L IH]; simpl; [reflexivity|]. destruct (f x); simpl; lia.
Qed.

(** A point whose pairs with a one-coloured set have that colour makes it larger by one. *)
Lemma grow : forall A (c : A -> A -> bool) v x L (S : list A),
  (forall y, In y L -> c x y = c y x) -> ~ In x L -> NoDup S ->
  incl S (filter (fun y => eqb (c x y) v) L) -> one_coloured c v S ->
  NoDup (x :: S) /\ incl (x :: S) (x :: L) /\ one_coloured c v (x :: S).
Proof.
  intros A c v x L S Sym Hx ND Sub One.
  assert (In_L : forall y, In y S -> In y L /\ c x y = v).
  { intros y Hy. apply Sub in Hy. apply filter_In in Hy as [? H]. split; [assumption|].
    now apply eqb_prop. }
  repeat split.
  - constructor; [|assumption]. intro H. now apply Hx, In_L.
  - intros y [->|Hy]; [now left|right; now apply In_L].
  - intros y z [<-|Hy] [<-|Hz] Neq.
    + contradiction.
    + now apply In_L.
    + rewrite <- Sym; now apply In_L.
    + now apply One.
Qed.

(** By induction on n = a + b: the first point x has C(n−1, a−1) neighbours of the colour [true] in the list, or
    C(n−1, a) of the colour [false]; a set found among them is large enough, or is so together with x. *)
Lemma ramsey : forall A (c : A -> A -> bool) n a b (L : list A),
  a + b = n -> (forall x y, In x L -> In y L -> c x y = c y x) -> NoDup L ->
  binom n a <= length L ->
  exists (v : bool) (S : list A), NoDup S /\ incl S L /\
    length S = (if v then a else b) + 1 /\ one_coloured c v S.
Proof.
  intros A c. induction n as [|n IH]; intros a b L E Sym ND Len;
    (destruct L as [|x L];
     [pose proof (binom_positive (a + b) a ltac:(lia)) as P; rewrite E in P; simpl length in Len; lia|]);
    assert (Single : forall v, exists S, NoDup S /\ incl S (x :: L) /\ length S = 0 + 1 /\ one_coloured c v S)
      by (intro v; exists [x]; repeat split;
          [ constructor; [easy|constructor] | intros y [->|[]]; now left
          | intros y z [<-|[]] [<-|[]] Neq; contradiction ]).
  - exists true. assert (a = 0) as -> by lia. apply Single.
  - destruct a as [|a]; [exists true; apply Single|].
    destruct b as [|b]; [exists false; apply Single|].
    simpl binom in Len. simpl length in Len. inversion ND as [|? ? Hx ND']; subst.
    assert (SymL : forall y z, In y L -> In z L -> c y z = c z y) by (intros; apply Sym; now right).
    assert (SymX : forall y, In y L -> c x y = c y x) by (intros; apply Sym; [now left|now right]).
    pose proof (filter_splits A (fun y => eqb (c x y) true) L) as Split.
    rewrite (filter_ext (fun y => negb (eqb (c x y) true)) (fun y => eqb (c x y) false)) in Split
      by (intro y; now destruct (c x y)).
    assert (Step : forall v a' b', a' + b' = n -> binom n a' <= length (filter (fun y => eqb (c x y) v) L) ->
      (if v then S a' = S a /\ b' = S b else a' = S a /\ S b' = S b) ->
      exists (v : bool) (T : list A), NoDup T /\ incl T (x :: L) /\
        length T = (if v then S a else S b) + 1 /\ one_coloured c v T).
    { intros v a' b' E' Len' Which.
      destruct (IH a' b' (filter (fun y => eqb (c x y) v) L)) as (w & T & NT & IT & LT & OT).
      - assumption.
      - intros y z Hy Hz. apply filter_In in Hy, Hz. now apply SymL.
      - now apply NoDup_filter.
      - assumption.
      - destruct (Bool.bool_dec w v) as [->|Other].
        + destruct (grow A c v x L T SymX Hx NT IT OT) as (? & ? & ?).
          exists v, (x :: T). repeat split; try assumption. simpl length. destruct v; lia.
        + exists w, T. repeat split; try assumption.
          * intros y Hy. right. apply IT in Hy. now apply filter_In in Hy.
          * destruct v, w; try congruence; lia. }
    destruct (le_lt_dec (binom n a) (length (filter (fun y => eqb (c x y) true) L))).
    + apply (Step true a (S b)); auto; lia.
    + apply (Step false (S a) b); auto; lia.
Qed.

Lemma binom_unique : forall a b m, m * (fact a * fact b) = fact (a + b) -> m = binom (a + b) a.
Proof.
  intros a b m H. rewrite <- binom_is_the_binomial_coefficient in H.
  apply Nat.mul_cancel_r in H; [assumption|]. pose proof (lt_O_fact a). pose proof (lt_O_fact b). nia.
Qed.

Theorem erdos_szekeres : forall A (c : A -> A -> bool) a b m (L : list A),
  (forall x y, In x L -> In y L -> c x y = c y x) -> NoDup L ->
  m * (fact a * fact b) = fact (a + b) -> m <= length L ->
  (exists S, NoDup S /\ incl S L /\ length S = a + 1 /\ one_coloured c true S) \/
  (exists S, NoDup S /\ incl S L /\ length S = b + 1 /\ one_coloured c false S).
Proof.
  intros A c a b m L Sym ND Choose Len. rewrite (binom_unique a b m Choose) in Len.
  destruct (ramsey A c (a + b) a b L eq_refl Sym ND Len) as ([|] & S & HS); [left|right]; now exists S.
Qed.

(** * 3. A set that misses a value *)

Definition misses (F : nat -> nat -> nat) (n y : nat) (S : list nat) : Prop :=
  NoDup S /\ (forall a, In a S -> a < n) /\ forall a b, In a S -> In b S -> F a b <> y.

Definition three_values (F : nat -> nat -> nat) (n : nat) : Prop := forall a b, a < n -> b < n -> F a b < 3.
Definition symmetric (F : nat -> nat -> nat) (n : nat) : Prop := forall a b, a < n -> b < n -> F a b = F b a.

(** One of three values is taken by a third of the list. *)
Lemma majority : forall (d : nat -> nat) (L : list nat), (forall x, In x L -> d x < 3) ->
  exists b, b < 3 /\ length L <= 3 * length (filter (fun x => d x =? b) L).
Proof.
  intros d L H.
  assert (length L = length (filter (fun x => d x =? 0) L) + length (filter (fun x => d x =? 1) L)
                     + length (filter (fun x => d x =? 2) L)) as Sum.
  { induction L as [|x L IH]; [reflexivity|]. simpl length at 1. rewrite IH by (intros; apply H; now right).
    specialize (H x (or_introl eq_refl)). simpl filter.
    destruct (d x) as [|[|[|z]]]; simpl; lia. }
  destruct (le_lt_dec (length L) (3 * length (filter (fun x => d x =? 0) L))); [exists 0; lia|].
  destruct (le_lt_dec (length L) (3 * length (filter (fun x => d x =? 1) L))); [exists 1; lia|].
  exists 2. lia.
Qed.

Lemma diagonal_class : forall n m F, three_values F n -> 3 * m <= n + 2 ->
  exists b L, b < 3 /\ NoDup L /\ m <= length L /\ forall x, In x L -> x < n /\ F x x = b.
Proof.
  intros n m F V H.
  destruct (majority (fun x => F x x) (seq 0 n)) as (b & Hb & Len).
  { intros x Hx. apply in_seq in Hx. apply V; lia. }
  exists b, (filter (fun x => F x x =? b) (seq 0 n)). split; [assumption|].
  split; [apply NoDup_filter, seq_NoDup|]. rewrite seq_length in Len. split; [lia|].
  intros x Hx. apply filter_In in Hx as [Hx Eq]. apply in_seq in Hx. split; [lia|now apply Nat.eqb_eq].
Qed.

(** One of the two values besides b; [3 - b - another b] is the other one. *)
Definition another (b : nat) : nat := match b with 0 => 1 | _ => 0 end.

Lemma one_coloured_misses : forall n F b v S, b < 3 -> three_values F n -> NoDup S ->
  (forall x, In x S -> x < n /\ F x x = b) -> one_coloured (fun x y => F x y =? another b) v S ->
  exists y, y < 3 /\ misses F n y S.
Proof.
  intros n F b v S Hb V ND D One.
  exists (if v then 3 - b - another b else another b). split.
  { destruct v, b as [|[|[|b]]]; simpl; lia. }
  split; [assumption|split]; [intros x Hx; now apply D|]. intros x y Hx Hy.
  destruct (Nat.eq_dec x y) as [->|Neq].
  - destruct (D y Hy) as [_ ->]. destruct v, b as [|[|[|b]]]; simpl; lia.
  - specialize (One x y Hx Hy Neq). simpl in One. destruct v.
    + apply Nat.eqb_eq in One. rewrite One. destruct b as [|[|[|b]]]; simpl; lia.
    + now apply Nat.eqb_neq.
Qed.

Theorem missing_value_binomial : forall j n F, three_values F n -> symmetric F n ->
  3 * binom (2 * j) j <= n + 2 -> exists y S, y < 3 /\ length S = j + 1 /\ misses F n y S.
Proof.
  intros j n F V Sym Len.
  destruct (diagonal_class n _ F V Len) as (b & L & Hb & ND & HL & D).
  destruct (ramsey nat (fun x y => F x y =? another b) (2 * j) j j L) as (v & S & NS & IS & LS & OS).
  - lia.
  - intros x y Hx Hy. rewrite (Sym x y); [reflexivity| |]; now apply D.
  - assumption.
  - assumption.
  - destruct (one_coloured_misses n F b v S) as (y & Hy & M); try assumption.
    { intros x Hx. apply D, IS, Hx. }
    exists y, S. repeat split; try assumption; try apply M. destruct v; lia.
Qed.

Theorem missing_value_factorial : forall j n m F, three_values F n -> symmetric F n ->
  m * (fact j * fact j) = fact (2 * j) -> 3 * m <= n + 2 ->
  exists y S, y < 3 /\ length S = j + 1 /\ misses F n y S.
Proof.
  intros j n m F V Sym Choose Len. apply missing_value_binomial; try assumption.
  replace (2 * j) with (j + j) in * by lia. now rewrite <- (binom_unique j j m Choose).
Qed.

Theorem missing_value_power : forall j n F, three_values F n -> symmetric F n ->
  3 * 4 ^ j <= n + 2 -> exists y S, y < 3 /\ length S = j + 1 /\ misses F n y S.
Proof.
  intros j n F V Sym Len. apply missing_value_binomial; try assumption.
  pose proof (binom_at_most_power (2 * j) j) as H. rewrite Nat.pow_mul_r in H.
  change (2 ^ 2) with 4 in H. lia.
Qed.

Lemma smaller : forall n F y S k, k <= length S -> misses F n y S ->
  exists T, length T = k /\ misses F n y T.
Proof.
  intros n F y S k H (ND & Lt & M). rewrite <- (firstn_skipn k S) in ND.
  assert (Sub : forall x, In x (firstn k S) -> In x S)
    by (intros x Hx; rewrite <- (firstn_skipn k S); apply in_or_app; now left).
  exists (firstn k S). repeat split.
  - apply firstn_length_le. assumption.
  - clear - ND. induction (firstn k S) as [|x T IH]; [constructor|]. inversion ND as [|? ? No ND']; subst.
    constructor; [intro Hx; apply No, in_or_app; now left|now apply IH].
  - intros a Ha. now apply Lt, Sub.
  - intros a b Ha Hb. apply M; now apply Sub.
Qed.

Theorem missing_value : forall k n F, three_values F n -> symmetric F n ->
  3 * 4 ^ k <= n -> exists y S, y < 3 /\ length S = k /\ misses F n y S.
Proof.
  intros k n F V Sym Len. destruct (missing_value_power k n F V Sym ltac:(lia)) as (y & S & Hy & LS & M).
  destruct (smaller n F y S k ltac:(lia) M) as (T & LT & MT). now exists y, T.
Qed.

Theorem missing_value_logarithm : forall n F, three_values F n -> symmetric F n -> 1 <= n ->
  exists y S, y < 3 /\ length S = 1 + Nat.log2 ((n + 2) / 3) / 2 /\ misses F n y S.
Proof.
  intros n F V Sym Pos. rewrite Nat.add_comm. apply missing_value_power; try assumption.
  assert (1 <= (n + 2) / 3) by (apply Nat.div_le_lower_bound; lia).
  pose proof (Nat.log2_spec ((n + 2) / 3) ltac:(lia)) as [Low _].
  pose proof (Nat.mul_div_le (Nat.log2 ((n + 2) / 3)) 2 ltac:(lia)) as Half.
  pose proof (Nat.mul_div_le (n + 2) 3 ltac:(lia)).
  change 4 with (2 ^ 2). rewrite <- Nat.pow_mul_r.
  pose proof (Nat.pow_le_mono_r 2 _ _ ltac:(lia) Half). lia.
Qed.

(** * 4. What is false

    Each is the negation of [missing_value] with one change, by a table on 48 = 3·4^2 points and k = 2. *)

(** 0 on the diagonal, 1 above it, 2 below: every two points see all three values. *)
Theorem symmetry_is_needed : ~ (forall k n F, three_values F n ->
  3 * 4 ^ k <= n -> exists y S, y < 3 /\ length S = k /\ misses F n y S).
Proof.
  intro H.
  destruct (H 2 48 (fun a b => if a =? b then 0 else if a <? b then 1 else 2)) as (y & S & Hy & LS & ND & _ & M).
  - intros a b _ _. destruct (a =? b), (a <? b); lia.
  - simpl. lia.
  - destruct S as [|p [|q [|]]]; try discriminate. clear LS.
    assert (p <> q) as Neq by (inversion ND as [|? ? N _]; intros ->; apply N; now left).
    pose proof (M p p ltac:(now left) ltac:(now left)) as M1. rewrite Nat.eqb_refl in M1.
    pose proof (M p q ltac:(now left) ltac:(now right; left)) as M2.
    pose proof (M q p ltac:(now right; left) ltac:(now left)) as M3. simpl in M2, M3.
    destruct (Nat.eqb_spec p q), (Nat.eqb_spec q p), (Nat.ltb_spec p q), (Nat.ltb_spec q p); lia.
Qed.

(** 0 on the diagonal and 1 off it: constant on no two points. *)
Theorem constant_is_too_much : ~ (forall k n F, three_values F n -> symmetric F n ->
  3 * 4 ^ k <= n -> exists y S, y < 3 /\ length S = k /\ NoDup S /\ (forall a, In a S -> a < n) /\
    forall a b, In a S -> In b S -> F a b = y).
Proof.
  intro H. destruct (H 2 48 (fun a b => if a =? b then 0 else 1)) as (y & S & Hy & LS & ND & _ & M).
  - intros a b _ _. destruct (a =? b); lia.
  - intros a b _ _. now rewrite Nat.eqb_sym.
  - simpl. lia.
  - destruct S as [|p [|q [|]]]; try discriminate. clear LS.
    assert (p <> q) as Neq by (inversion ND as [|? ? N _]; intros ->; apply N; now left).
    pose proof (M p p ltac:(now left) ltac:(now left)) as M1. rewrite Nat.eqb_refl in M1.
    pose proof (M p q ltac:(now left) ltac:(now right; left)) as M2.
    destruct (Nat.eqb_spec p q); lia.
Qed.

(** Nothing is assumed by any of these; the answer is "Closed under the global context". *)
Definition main_theorems := (
  missing_value,
  missing_value_power,
  missing_value_factorial,
  missing_value_logarithm,
  @erdos_szekeres,
  symmetry_is_needed,
  constant_is_too_much).
Print Assumptions main_theorems.
