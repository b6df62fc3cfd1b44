(** How many points force a set of k that misses a value: exactly 3R(k, k) − 2, R Ramsey's number.

    Points, values and "misses" are those of MissingValue. What is proved:

    - [exact_threshold]        for k ≥ 2: n points force k that miss a value if and only if n ≥ 3R(k, k) − 2, where
                               R(k, k) is the number with: m points have one-coloured k-sets iff m ≥ R(k, k);
    - [two_points]             n points force a pair that misses a value iff n ≥ 4, as R(2, 2) = 2;
    - [three_points]           n points force three that miss a value iff n ≥ 16, as R(3, 3) = 6, shown here;
    - [paley_17]               the Paley graph on 17 vertices has no one-coloured 4-set;
    - [base_two_is_too_small]  hence [missing_value] with 3·2^k in place of 3·4^k is false, at k = 4.

    Compile after MissingValue with: coqc -Q . Colourings Threshold.v *)

From Coq Require Import Arith List Lia Bool Factorial.
From Colourings Require Import MissingValue.
Import ListNotations.

(** * 1. The exact threshold *)

Definition arrows (m k : nat) : Prop := forall c : nat -> nat -> bool,
  (forall x y, x < m -> y < m -> c x y = c y x) ->
  exists v S, NoDup S /\ length S = k /\ (forall x, In x S -> x < m) /\ one_coloured c v S.

Definition forces (n k : nat) : Prop := forall F, three_values F n -> symmetric F n ->
  exists y S, y < 3 /\ length S = k /\ misses F n y S.

Lemma injective_NoDup : forall A B (f : A -> B) (L : list A), NoDup L ->
  (forall x y, In x L -> In y L -> f x = f y -> x = y) -> NoDup (map f L).
Proof.
  intros A B f L ND. induction ND as [|x L Hx ND IH]; intro Inj; simpl; constructor.
  - intro H. apply in_map_iff in H as (y & E & Hy). apply Hx.
    rewrite <- (Inj y x); [assumption|now right|now left|assumption].
  - apply IH. intros; apply Inj; try (now right); assumption.
Qed.

(** Upper side: the majority class of the diagonal has m points, and a one-coloured set in it misses a value. *)
Lemma threshold_upper : forall k m n, arrows m k -> 3 * m <= n + 2 -> forces n k.
Proof.
  intros k m n Arrows Len F V Sym.
  destruct (diagonal_class n m F V Len) as (b & L & Hb & ND & HL & D).
  set (at_ i := nth i L 0).
  assert (InL : forall i, i < m -> In (at_ i) L) by (intros; apply nth_In; lia).
  destruct (Arrows (fun i j => F (at_ i) (at_ j) =? another b)) as (v & S & NS & LS & IS & OS).
  { intros i j Hi Hj. rewrite Sym; [reflexivity| |]; now apply D, InL. }
  destruct (one_coloured_misses n F b v (map at_ S)) as (y & Hy & M); try assumption.
  - apply injective_NoDup; [assumption|]. intros i j Hi Hj E.
    apply (NoDup_nth L 0); [assumption| | |exact E]; (eapply Nat.lt_le_trans; [now apply IS|lia]).
  - intros x Hx. apply in_map_iff in Hx as (i & <- & Hi). now apply D, InL, IS.
  - intros x z Hx Hz Neq. apply in_map_iff in Hx as (i & <- & Hi), Hz as (j & <- & Hj).
    apply OS; try assumption. now intros ->.
  - exists y, (map at_ S). now rewrite map_length.
Qed.

(** Lower side: three classes of m points each. The point x is in class x mod 3, and is the vertex x / 3 of the
    graph c there. The diagonal of class i is i, its edges are i + 1 and its other pairs i + 2 modulo 3; pairs
    between two classes have the value of the third. *)
Definition three_classes (c : nat -> nat -> bool) (x y : nat) : nat :=
  if x mod 3 =? y mod 3 then
    if x =? y then x mod 3 else (x mod 3 + if c (x / 3) (y / 3) then 1 else 2) mod 3
  else 3 - x mod 3 - y mod 3.

Lemma remainders : forall x, x mod 3 < 3.
Proof. intro x. apply Nat.mod_upper_bound. lia. Qed.

Lemma same_point : forall x y, x mod 3 = y mod 3 -> x / 3 = y / 3 -> x = y.
Proof.
  intros x y E1 E2. rewrite (Nat.div_mod x 3), (Nat.div_mod y 3) by lia. now rewrite E1, E2.
Qed.

(** A set that misses a value lies in one class, and is one-coloured there. *)
Lemma threshold_lower : forall k m n, 2 <= k -> n <= 3 * m -> forces n k -> arrows m k.
Proof.
  intros k m n Hk Hn Forces c Sym.
  assert (Vertex : forall x, x < n -> x / 3 < m) by (intros; apply Nat.div_lt_upper_bound; lia).
  destruct (Forces (three_classes c)) as (y & S & Hy & LS & ND & Lt & M).
  - intros a b _ _. unfold three_classes. pose proof (remainders a). pose proof (remainders b).
    destruct (Nat.eqb_spec (a mod 3) (b mod 3)); [destruct (a =? b); [|apply remainders]|]; lia.
  - intros a b Ha Hb. unfold three_classes. rewrite (Nat.eqb_sym b a), (Nat.eqb_sym (b mod 3)).
    destruct (Nat.eqb_spec (a mod 3) (b mod 3)) as [E|]; [|lia].
    rewrite (Sym (b / 3)) by auto. destruct (Nat.eqb_spec a b) as [->|]; [reflexivity|now rewrite E].
  - assert (Class : forall a b, In a S -> In b S -> a mod 3 = b mod 3).
    { intros a b Ha Hb. pose proof (M a a Ha Ha) as Maa. pose proof (M b b Hb Hb) as Mbb.
      pose proof (M a b Ha Hb) as Mab. unfold three_classes in Maa, Mbb, Mab.
      rewrite !Nat.eqb_refl in Maa, Mbb. destruct (Nat.eqb_spec (a mod 3) (b mod 3)); [assumption|].
      pose proof (remainders a). pose proof (remainders b). lia. }
    destruct S as [|s S']; [simpl in LS; lia|]. set (S := s :: S') in *.
    assert (Ms : s mod 3 <> y).
    { intro E. apply (M s s); [now left|now left|]. unfold three_classes. now rewrite !Nat.eqb_refl. }
    exists ((s mod 3 + 2) mod 3 =? y), (map (fun x => x / 3) S). repeat split.
    + apply injective_NoDup; [assumption|]. intros. apply same_point; auto.
    + now rewrite map_length.
    + intros x Hx. apply in_map_iff in Hx as (z & <- & Hz). auto.
    + intros p q Hp Hq Neq. apply in_map_iff in Hp as (a & <- & Ha), Hq as (b & <- & Hb).
      pose proof (M a b Ha Hb) as Mab. unfold three_classes in Mab.
      rewrite (Class a s), (Class b s), Nat.eqb_refl in Mab; try assumption; try now left.
      destruct (Nat.eqb_spec a b) as [->|_]; [contradiction|]. pose proof (remainders s).
      destruct (s mod 3) as [|[|[|z]]], y as [|[|[|w]]], (c (a / 3) (b / 3));
        simpl in *; lia || reflexivity || congruence.
Qed.

Theorem exact_threshold : forall k R, 2 <= k -> (forall m, arrows m k <-> R <= m) ->
  forall n, forces n k <-> 3 * R - 2 <= n.
Proof.
  intros k R Hk Ramsey n. split.
  - intro H. destruct (le_lt_dec (3 * R - 2) n) as [|Less]; [assumption|exfalso].
    assert (arrows (R - 1) k) as A by (apply (threshold_lower k (R - 1) n); [assumption|lia|assumption]).
    apply Ramsey in A. lia.
  - intro H. apply (threshold_upper k R n); [|lia]. now apply Ramsey.
Qed.

(** * 2. Small Ramsey numbers

    By computation: [search] looks for a set of k that is one-coloured, and [search_complete] shows that it finds
    one if there is one. *)

Fixpoint search (c : nat -> nat -> bool) (v : bool) (k : nat) (among : list nat) : bool :=
  match k with
  | 0 => true
  | S k' => existsb (fun x => search c v k' (filter (fun y => negb (x =? y) && eqb (c x y) v) among)) among
  end.

Lemma search_complete : forall c v S among, NoDup S -> incl S among -> one_coloured c v S ->
  search c v (length S) among = true.
Proof.
  induction S as [|x S IH]; intros among ND Sub One; [reflexivity|].
  simpl. apply existsb_exists. exists x. split; [apply Sub; now left|].
  inversion ND as [|? ? Hx ND']; subst. apply IH; [assumption| |].
  - intros y Hy. apply filter_In. split; [apply Sub; now right|]. apply andb_true_intro. split.
    + apply negb_true_iff, Nat.eqb_neq. now intros <-.
    + apply eqb_true_iff, One; [now left|now right|now intros <-].
  - intros a b Ha Hb. apply One; now right.
Qed.

(** The graph on the integers modulo q whose edges are the differences in D. *)
Definition circulant (q : nat) (D : list nat) (x y : nat) : bool := existsb (Nat.eqb ((x + q - y) mod q)) D.

Definition refuses (q : nat) (D : list nat) (k : nat) : bool :=
  forallb (fun x => forallb (fun y => eqb (circulant q D x y) (circulant q D y x)) (seq 0 q)) (seq 0 q)
  && negb (search (circulant q D) true k (seq 0 q)) && negb (search (circulant q D) false k (seq 0 q)).

Lemma refuses_sound : forall q D k, refuses q D k = true -> ~ arrows q k.
Proof.
  intros q D k H Arrows. unfold refuses in H. rewrite !andb_true_iff, !negb_true_iff in H.
  destruct H as [[Sym Red] Blue].
  destruct (Arrows (circulant q D)) as (v & S & ND & <- & Lt & One).
  - intros x y Hx Hy. rewrite forallb_forall in Sym. specialize (Sym x ltac:(apply in_seq; lia)).
    rewrite forallb_forall in Sym. apply eqb_true_iff, Sym, in_seq. lia.
  - pose proof (search_complete (circulant q D) v S (seq 0 q) ND) as Found.
    destruct v; rewrite Found in *; try discriminate; try assumption;
      intros x Hx; apply in_seq; specialize (Lt x Hx); lia.
Qed.

Lemma arrows_binomial : forall j, arrows (binom (2 * j) j) (j + 1).
Proof.
  intros j c Sym. destruct (ramsey nat c (2 * j) j j (seq 0 (binom (2 * j) j))) as (v & S & NS & IS & LS & OS).
  - lia.
  - intros x y Hx Hy. apply in_seq in Hx, Hy. apply Sym; lia.
  - apply seq_NoDup.
  - now rewrite seq_length.
  - exists v, S. repeat split; try assumption; [destruct v; lia|]. intros x Hx. apply IS, in_seq in Hx. lia.
Qed.

Lemma arrows_more : forall m m' k, m <= m' -> arrows m k -> arrows m' k.
Proof.
  intros m m' k H A c Sym. destruct (A c) as (v & S & ND & LS & Lt & One).
  - intros; apply Sym; lia.
  - exists v, S. repeat split; try assumption. intros x Hx. specialize (Lt x Hx). lia.
Qed.

Lemma ramsey_number : forall k R, arrows R k -> ~ arrows (R - 1) k -> forall m, arrows m k <-> R <= m.
Proof.
  intros k R Yes No m. split.
  - intro A. destruct (le_lt_dec R m); [assumption|exfalso]. apply No. apply (arrows_more m); [lia|assumption].
  - intro H. now apply (arrows_more R).
Qed.

(** One vertex has no pair. *)
Theorem ramsey_2_2 : forall m, arrows m 2 <-> 2 <= m.
Proof. apply ramsey_number; [exact (arrows_binomial 1)|]. apply (refuses_sound 1 []). reflexivity. Qed.

(** The 5-cycle has no one-coloured triangle; C(4, 2) = 6. *)
Theorem ramsey_3_3 : forall m, arrows m 3 <-> 6 <= m.
Proof. apply ramsey_number; [exact (arrows_binomial 2)|]. apply (refuses_sound 5 [1; 4]). reflexivity. Qed.

Theorem two_points : forall n, forces n 2 <-> 4 <= n.
Proof. exact (exact_threshold 2 2 ltac:(lia) ramsey_2_2). Qed.

Theorem three_points : forall n, forces n 3 <-> 16 <= n.
Proof. exact (exact_threshold 3 6 ltac:(lia) ramsey_3_3). Qed.

(** Edges between numbers that differ by a square modulo 17. *)
Theorem paley_17 : ~ arrows 17 4.
Proof. apply (refuses_sound 17 [1; 2; 4; 8; 9; 13; 15; 16]). vm_compute. reflexivity. Qed.

(** * 3. What is false *)

Theorem base_two_is_too_small : ~ (forall k n F, three_values F n -> symmetric F n ->
  3 * 2 ^ k <= n -> exists y S, y < 3 /\ length S = k /\ misses F n y S).
Proof.
  intro H. apply paley_17. apply (threshold_lower 4 17 51); try lia.
  intros F V Sym. apply (H 4 51 F V Sym). simpl. lia.
Qed.

(** Nothing is assumed by any of these; the answer is "Closed under the global context". *)
Definition main_theorems := (
  exact_threshold,
  two_points,
  three_points,
  paley_17,
  base_two_is_too_small).
Print Assumptions main_theorems.
