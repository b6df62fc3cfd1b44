"""Where the claims come from, as it is written beside each of them."""

SENSITIVITY = "Stambler, Sensitivity-Based Feature Discovery Without Sparsity Assumptions, 2025"
RAMSEY = "Stambler, Ramsey Theory is Fun: a surprising fact when F(x,y)=F(y,x), 2025"
