"""torch's operators on sizes: what each saves for its backward, and what its kernel takes on a card.

Sources: torch's derivatives.yaml and FunctionsManual.cpp (what is saved, in which order gradients come),
autocast_mode.cpp, and the CUDA kernels that `toolkit.vram.kernels` names.
"""

from __future__ import annotations

from toolkit.vram.closed_form.tape import Tape, Value


def promoted(*dtypes: str) -> str:
    """The dtype of an operator on several."""
    return dtypes[0] if len(set(dtypes)) == 1 else "fp32"


class Operators(Tape):
    """A tape that one writes on by calling torch's operators."""

    def view(self, x: Value, width: str) -> Value:
        """A part of the same store, whose gradient is laid into zeros."""
        return self.op(Value(x.store, width, x.dtype), (x,))

    def copy(self, x: Value) -> Value:
        """x.clone(), or .contiguous() where it is not; the gradient passes through."""
        return self.op(self.new(x.width, x.dtype), (x,), (), lambda grad: (grad,))

    def cast(self, x: Value, dtype: str) -> Value:
        """x.to(dtype): nothing where it is that already."""
        if x.dtype == dtype:
            return x
        width, before = x.width, x.dtype
        return self.op(self.new(width, dtype), (x,), (), lambda grad: (self.new(width, before),))

    def cast_weight(self, w: Value) -> Value:
        """A weight as autocast gives it to a product: trained ones are cast once, and kept until it ends."""
        if not self.autocast or w.dtype == self.autocast:
            return w
        if w.node is None or w.dtype != "fp32":
            return self.cast(w, self.autocast)
        if id(w.node) not in self.casts:
            self.casts[id(w.node)] = w, self.cast(w, self.autocast)
        return self.casts[id(w.node)][1]

    def lower(self, x: Value) -> Value:
        """What autocast makes of a product's argument."""
        return self.cast(x, self.autocast) if self.autocast else x

    def upper(self, x: Value) -> Value:
        """What autocast makes of the argument of an operator that it runs in fp32."""
        return self.cast(x, "fp32") if self.autocast else x

    def linear(self, x: Value, weight: Value, width: str) -> Value:
        """x W^T: keeps x for the weight's gradient, the weight (as it was cast) for that of x."""
        x, weight = self.lower(x), self.cast_weight(weight)
        saved = (x if weight.node else None, weight if x.node else None)
        self.foresee((weight, x), saved)
        return self.op(self.new(width, promoted(x.dtype, weight.dtype)), (weight, x), saved)

    def grouped(self, x: Value, weight: Value, width: str, fallback: bool) -> Value:
        """A product with each expert's matrix, in its dtype: autocast leaves it alone. The fallback for older
        cards keeps x and makes the weight's gradient, trained or not."""
        x = self.cast(x, weight.dtype)
        given, whole, dtype, trained = x.width, weight.width, x.dtype, weight.node is not None

        def back(grad: Value, *_: Value) -> tuple[Value, Value | None]:
            made = self.new(given, dtype)
            gradient = self.new(whole, dtype) if fallback or trained else None
            return made, gradient if trained else None

        saved = (x if fallback or weight.node else None, weight)
        return self.op(self.new(width, x.dtype), (x, weight), saved, back)

    def add(self, x: Value, y: Value) -> Value:
        """x + y of one shape: both have the very gradient of the sum."""
        out = self.new(x.width, promoted(x.dtype, y.dtype))
        return self.op(out, (x, y), (), lambda grad: (grad, grad))

    def scaled(self, x: Value, by: str = "") -> Value:
        """x times a number, or a small frozen tensor of dtype `by`."""
        return self.op(self.new(x.width, promoted(x.dtype, by or x.dtype)), (x,))

    def mul(self, x: Value, y: Value) -> Value:
        """x y, elementwise, of one shape."""
        saved = (x if y.node else None, y if x.node else None)
        self.foresee((x, y), saved)
        return self.op(self.new(x.width, promoted(x.dtype, y.dtype)), (x, y), saved)

    def broadcast(self, x: Value, y: Value) -> Value:
        """x times a smaller y: the gradient of y is made whole, then summed."""
        needs, width, small = (x.node is not None, y.node is not None), x.width, y.width

        def back(grad: Value, *_: Value) -> tuple[Value | None, Value | None]:
            whole = self.new(width, grad.dtype) if needs[1] else None
            given = self.new(width, grad.dtype) if needs[0] else None
            return given, self.new(small, grad.dtype) if whole else None

        saved = (x if y.node else None, y if x.node else None)
        self.foresee((x, y), saved)
        return self.op(self.new(width, promoted(x.dtype, y.dtype)), (x, y), saved, back)

    def unary(self, x: Value, keeps: str = "x") -> Value:
        """An activation function of one kernel, which keeps its input ("x") or its output ("out")."""
        if keeps == "x":
            self.foresee((x,), (x,))
        out = self.new(x.width, x.dtype)
        return self.op(out, (x,), (x if keeps == "x" else out,))

    def power(self, x: Value) -> Value:
        """x ** n: its backward makes x ** (n - 1), n times that, and the product."""
        width, dtype = x.width, x.dtype

        def back(grad: Value, *_: Value) -> tuple[Value]:
            lower, times = self.new(width, dtype), self.new(width, dtype)
            given = self.new(width, dtype)
            del lower, times
            return (given,)

        return self.op(self.new(width, dtype), (x,), (x,), back)

    def mean(self, x: Value) -> Value:
        """The mean of each row."""
        return self.op(self.new("row", x.dtype), (x,))

    def dropout(self, x: Value) -> Value:
        """native_dropout: keeps a mask of bytes."""
        mask = self.new(x.width, "byte")
        return self.op(self.new(x.width, x.dtype), (x,), (mask,))

    def softmax(self, x: Value, dtype: str) -> Value:
        """Of scores, in `dtype`: from fp16 to fp32 without a copy; CUDA's backward takes one more block."""
        x = x if x.dtype == "fp16" and dtype == "fp32" else self.cast(x, dtype)
        width, out_dtype, back_dtype = x.width, dtype, x.dtype

        def back(grad: Value, *_: Value) -> tuple[Value]:
            given = self.new(width, back_dtype)
            self.new(width, grad.dtype)
            return (given,)

        out = self.new(width, out_dtype)
        return self.op(out, (x,), (out,), back)

    def bmm(self, x: Value, y: Value, width: str) -> Value:
        """A batched product of two tensors that both may need a gradient: that of the second comes first."""
        saved = (x if y.node else None, y if x.node else None)
        return self.op(self.new(width, promoted(x.dtype, y.dtype)), (y, x), saved)

    def layer_norm(self, x: Value, weight: Value) -> Value:
        """native_layer_norm, which autocast runs in fp32: keeps its input, two numbers a row."""
        x, weight = self.upper(x), weight
        out = self.new(x.width, x.dtype)
        return self.op(out, (x, weight), (x, self.new("row", "fp32"), self.new("row", "fp32")))

    def centred(self, x: Value, mean: Value) -> Value:
        """x less its row's mean: the mean's gradient is a sum."""
        return self.op(
            self.new(x.width, x.dtype), (x, mean), (), lambda grad: (grad, self.new("row", grad.dtype))
        )

    def repeat(self, x: Value, width: str) -> Value:
        """Keys or values, once for each query head: the gradient is summed over them."""
        return self.op(self.new(width, x.dtype), (x,))

    def rotate_half(self, x: Value) -> Value:
        """cat((-x2, x1)): half of it negated on the way, and laid into zeros twice on the way back."""
        width, half, dtype = x.width, f"half:{x.width}", x.dtype

        def back(grad: Value) -> tuple[Value]:
            negated = self.new(half, dtype)
            first = self.new(width, dtype)
            del negated
            self.new(width, dtype)
            return (first,)

        negated = self.new(half, dtype)
        out = self.new(width, dtype)
        del negated
        return self.op(out, (x,), (), back)

    def join(self, part: Value, whole: Value) -> Value:
        """cat((part, the rest of whole)): the rest's gradient is laid into zeros."""
        width, dtype = whole.width, promoted(part.dtype, whole.dtype)
        return self.op(
            self.new(width, dtype), (part, whole), (), lambda grad: (grad, self.new(width, grad.dtype))
        )

    def split(self, x: Value, widths: tuple[str, ...]) -> tuple[Value, ...]:
        """Views of one tensor; their gradients are laid together once all are there."""
        width = x.width
        whole = self.op(Value(x.store, width, x.dtype), (x,), (), lambda grad: (self.new(width, grad.dtype),))
        if whole.node is not None:
            whole.node.parts = []
        return tuple(Value(x.store, part, x.dtype, whole.node) for part in widths)
