"""Well-known Turing machines."""

from __future__ import annotations

from neurarium.theory.computation._turing_machine import Rule, TuringMachine


def machine(text: str, offset: int = 0, blank: str = "_") -> TuringMachine:
    """A machine from lines of: state, symbols read, next state, symbol written ("=" for the one read), L, R or N.

    The first line's state is the start; ``yes`` accepts and ``no`` rejects.
    """
    rules: list[Rule] = []
    for line in text.strip().splitlines():
        state, read, to, written, move = line.split()
        step = {"L": -1, "R": 1, "N": 0}[move]
        rules += [(state, symbol, to, symbol if written == "=" else written, step) for symbol in read]
    return TuringMachine(tuple(rules), rules[0][0], ("yes",), blank, ("no",), offset)


machines: dict[str, TuringMachine] = {
    # adds one to a binary number, its greatest digit first
    "increment": machine(
        """
        begin _  end   = R
        end   01 end   = R
        end   _  carry = L
        carry 1  carry 0 L
        carry 0_ yes   1 R
        """,
        offset=1,
    ),
    # words of a and b that read the same from both ends
    "palindrome": machine(
        """
        begin a  a     _ R
        begin b  b     _ R
        begin _  yes   = R
        a     ab a     = R
        a     _  end-a = L
        b     ab b     = R
        b     _  end-b = L
        end-a a  back  _ L
        end-a b  no    = R
        end-a _  yes   = R
        end-b b  back  _ L
        end-b a  no    = R
        end-b _  yes   = R
        back  ab back  = L
        back  _  begin = R
        """
    ),
    # a^n b^n c^n for n >= 1, which no stack can tell
    "equal-abc": machine(
        """
        begin a   b     X R
        begin Y   check = R
        b     aY  b     = R
        b     b   c     Y R
        c     bZ  c     = R
        c     c   back  Z L
        back  abYZ back = L
        back  X   begin = R
        check YZ  check = R
        check _   yes   = R
        """
    ),
    # 111+11 becomes 11111
    "unary-addition": machine(
        """
        first  1 first  = R
        first  + second 1 R
        second 1 second = R
        second _ erase  = L
        erase  1 yes    _ R
        """
    ),
    # brackets that all have a partner
    "brackets": machine(
        """
        begin _  close = R
        close (X close = R
        close )  open  X L
        close _  check = L
        open  X  open  = L
        open  (  close X R
        open  _  no    = R
        check X  check = L
        check (  no    = R
        check _  yes   = R
        """,
        offset=1,
    ),
    # words of an even number of symbols
    "even-length": machine(
        """
        even ab odd  = R
        even _  yes  = R
        odd  ab even = R
        odd  _  no   = R
        """
    ),
    # the busy beaver of four states: 107 steps, 13 ones, on a tape without end on either side
    "busy-beaver": machine(
        """
        A 0 B   1 R
        A 1 B   1 L
        B 0 A   1 L
        B 1 C   0 L
        C 0 yes 1 R
        C 1 D   1 L
        D 0 D   1 R
        D 1 A   0 R
        """,
        blank="0",
    ).shifted(10),
    # counts in binary for ever, its least digit first
    "counter": machine(
        """
        begin > add   = R
        add   1 add   0 R
        add   0 back  1 L
        add   _ back  1 L
        back  01 back = L
        back  > add   = R
        """
    ),
}
"""By name."""
