"""A machine that runs the pickle program in a .pth file, and can do nothing but build containers.

A pickle is not data but a program: one-letter instructions for a machine with a stack, a memo (numbered shelves to fetch
things from again) and marks. `python -m pickletools FILE` prints one. {"lr": 0.1} is

    }  EMPTY_DICT       push a new dict
    X  BINUNICODE 'lr'  push a string
    G  BINFLOAT 0.1     push a number
    s  SETITEM          take key and value, put them into the dict
    .  STOP             the result is what is on the stack

Two more instructions make pickles dangerous. GLOBAL pushes any object of any module, REDUCE calls it. Python's own
unpickler obeys, so opening a file with `c os system` and `R` in it runs a command. This machine has neither imports nor
calls: GLOBAL pushes a Name, a mere word, if the word is on a list; REDUCE asks `call` to do what that word stands for.
Instructions that weights do not need are missing.

What a file may make us use is bounded as well: everything built is charged to an Account, and nothing here recurses, so no
nesting is too deep.
"""
import pickle
import pickletools
import struct
import sys
from collections.abc import Callable
from typing import Any

from minidl.interop.account import NUMBER, SHELF, SLOT, TEXT, Account
from minidl.interop.archive import short

LONGEST_NAME = 256
_MISSING = object()


class Name(str):
    """The name of something global, "torch.FloatStorage": only ever the word."""


class Machine:
    """Runs one program of `data`, from `position` to its STOP.

    A subclass says what names mean: `name`, `call`, `fetch`, `build`. Errors: ValueError for every program that is
    damaged, has instructions that weights do not need, or makes too much.
    """

    def __init__(self, data: memoryview, position: int, account: Account) -> None:
        self.data, self.position, self.account = data, position, account
        self.stack: list[Any] = []
        self.marks: list[int] = []  # heights of the stack
        self.memo: list[Any] = []
        self.highest = self.most_marks = 0  # what stack and marks have been paid for

    # what a subclass defines

    def name(self, name: str) -> Any:
        """What GLOBAL pushes for a name."""
        raise ValueError(f"names {short(name)}")

    def call(self, function: Any, arguments: tuple) -> Any:
        """What REDUCE pushes."""
        raise ValueError("calls a function")

    def fetch(self, key: Any) -> Any:
        """What BINPERSID pushes: something kept outside the program."""
        raise ValueError("refers to something outside")

    def build(self, target: Any, state: Any) -> None:
        """What BUILD does to the object on top of the stack."""
        raise ValueError("sets attributes")

    # running

    def run(self) -> Any:
        """The object that the program makes; `position` is then just behind its STOP."""
        while True:
            code = self.take(1)[0]
            if code == pickle.STOP[0]:
                return self.pop()
            step = STEPS.get(code)
            if step is None:
                known = next((known.name for known in pickletools.opcodes if known.code == chr(code)), code)
                raise ValueError(f"has the instruction {known}, which torch.save never writes for "
                                 "weights: it is damaged, or not a file of weights")
            step(self)

    def take(self, n: int) -> memoryview:
        """The next n bytes of the program."""
        if n > len(self.data) - self.position:
            raise ValueError("ends in the middle: the download was cut off, get it again")
        self.position += n
        return self.data[self.position - n:self.position]

    def number(self, form: str) -> Any:
        """The next bytes, read as `form` (of `struct`) says."""
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def text(self, length: int) -> str:
        """The next `length` bytes as a string."""
        if length > LONGEST_NAME:  # then `raw` counts as well
            self.account.charge(length)
        raw = bytes(self.take(length))
        self.account.charge(TEXT + (1 if raw.isascii() else 5) * length)  # one rare character makes all of them 4 bytes wide
        try:
            return str(raw, "utf-8")
        except UnicodeDecodeError:
            raise ValueError("has a string that is not text (UTF-8): it is damaged, get it again") from None

    def line(self) -> str:
        """The text up to the end of the line: how GLOBAL writes names."""
        start = self.position
        found = bytes(self.data[start:start + LONGEST_NAME]).find(b"\n")
        if found < 0:
            raise ValueError(f"has a name of more than {LONGEST_NAME} characters: it is damaged, get it again")
        line = self.text(found)
        self.take(1)
        return line

    def push(self, value: Any) -> None:
        """Puts something on the stack that exists already or has been paid for."""
        if len(self.stack) == self.highest:
            self.account.charge(2 * SLOT)  # things that belong together are copied when they are taken off
            self.highest += 1
        self.stack.append(value)

    def push_new(self, value: Any) -> None:
        """Puts a new number or container on the stack."""
        self.account.charge(sys.getsizeof(value))
        self.push(value)

    def mark(self) -> None:
        """MARK: what is pushed from here on belongs together."""
        if len(self.marks) == self.most_marks:
            self.account.charge(SLOT + NUMBER)
            self.most_marks += 1
        self.marks.append(len(self.stack))

    def top(self, kind: type | tuple[type, ...] = object) -> Any:
        """What lies on top of the stack (above the last mark), which must be a `kind`."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0) or not isinstance(self.stack[-1], kind):
            raise ValueError("takes from the stack what was not put there: it is damaged, get it again")
        return self.stack[-1]

    def pop(self) -> Any:
        """Takes the top of the stack."""
        self.top()
        return self.stack.pop()

    def pop_marked(self) -> list[Any]:
        """Takes all above the last mark, and the mark."""
        if not self.marks:
            raise ValueError("takes from the stack what was not put there: it is damaged, get it again")
        height = self.marks.pop()
        items = self.stack[height:]
        del self.stack[height:]
        return items

    # instructions that need more than one expression

    def global_(self, name: str) -> None:
        """GLOBAL: a name must be allowed before it may even lie on the stack."""
        self.push_new(self.name(name))

    def stack_global(self) -> None:
        """GLOBAL whose two words come from the stack."""
        word, module = self.pop(), self.pop()
        if type(word) is not str or type(module) is not str or len(word) + len(module) > LONGEST_NAME:
            raise ValueError("takes as a name what is none: it is damaged, or not a file of weights")
        self.global_(f"{module}.{word}")

    def reduce(self) -> None:
        """REDUCE: the arguments lie above the function."""
        arguments = self.pop()
        function = self.pop()
        if type(function) is not Name or type(arguments) is not tuple:
            raise ValueError("calls what is no function: it is damaged, or not a file of weights")
        self.push(self.call(function, arguments))

    def set_state(self, state: Any) -> None:
        """BUILD: the state lies above its object, which stays."""
        self.build(self.top(), state)

    def set_items(self, items: list[Any]) -> None:
        """Keys and values, in turn, into the dict below them."""
        target = self.top(dict)
        if len(items) % 2:
            raise ValueError("has a key without a value: it is damaged, get it again")
        for key, value in zip(items[::2], items[1::2]):
            set_item(target, key, value, self.account)

    def append(self, items: list[Any]) -> None:
        """Items onto the list below them."""
        self.account.charge(SLOT * (len(items) + 1))  # the shortest list has 4 places
        self.top(list).extend(items)

    def memoize(self, index: int) -> None:
        """The top of the stack into the memo, whose shelves are filled one after the other."""
        value, more = self.top(), index + 1 - len(self.memo)
        if more > 0:
            self.account.charge(SLOT * more)
            self.memo.extend([_MISSING] * more)
        self.memo[index] = value

    def recall(self, index: int) -> None:
        """From the memo onto the stack."""
        if index >= len(self.memo) or self.memo[index] is _MISSING:
            raise ValueError(f"fetches shelf {index} of the memo, which is empty: it is damaged, get it again")
        self.push(self.memo[index])

    def push_tuple(self, count: int) -> None:
        """The last `count` things as a tuple."""
        items = [self.pop() for _ in range(count)]
        self.push_new(tuple(reversed(items)))


def set_item(target: dict, key: Any, value: Any, account: Account) -> None:
    """target[key] = value for keys whose hash is cheap: a deep tuple's recurses, big numbers can be made to collide."""
    if type(key) not in (str, int, bool) or (type(key) is int and abs(key) >= 2**60):
        raise ValueError(f"has a dictionary with the key {short(key)}, but keys must be names or numbers")
    account.charge(SHELF if target else 2 * SHELF)  # the smallest table has 5 places
    target[key] = value


def _ignore(n: int) -> Callable[[Machine], Any]:
    return lambda machine: machine.take(n)


STEPS: dict[int, Callable[[Machine], Any]] = {instruction[0]: step for instruction, step in {
    pickle.PROTO: _ignore(1),
    pickle.FRAME: _ignore(8),  # how much to read ahead: we never do
    # constants
    pickle.NONE: lambda m: m.push(None),
    pickle.NEWTRUE: lambda m: m.push(True),
    pickle.NEWFALSE: lambda m: m.push(False),
    pickle.BININT1: lambda m: m.push(m.number("<B")),
    pickle.BININT2: lambda m: m.push_new(m.number("<H")),
    pickle.BININT: lambda m: m.push_new(m.number("<i")),
    pickle.LONG1: lambda m: m.push_new(int.from_bytes(m.take(m.number("<B")), "little", signed=True)),
    pickle.BINFLOAT: lambda m: m.push_new(m.number(">d")),
    # strings: their length, then their bytes; Python 2 wrote BINSTRING
    pickle.SHORT_BINSTRING: lambda m: m.push(m.text(m.number("<B"))),
    pickle.BINSTRING: lambda m: m.push(m.text(m.number("<I"))),
    pickle.SHORT_BINUNICODE: lambda m: m.push(m.text(m.number("<B"))),
    pickle.BINUNICODE: lambda m: m.push(m.text(m.number("<I"))),
    pickle.SHORT_BINBYTES: lambda m: m.push_new(bytes(m.take(m.number("<B")))),
    # containers
    pickle.EMPTY_TUPLE: lambda m: m.push(()),
    pickle.EMPTY_LIST: lambda m: m.push_new([]),
    pickle.EMPTY_DICT: lambda m: m.push_new({}),
    pickle.MARK: lambda m: m.mark(),
    pickle.TUPLE: lambda m: m.push_new(tuple(m.pop_marked())),
    pickle.TUPLE1: lambda m: m.push_tuple(1),
    pickle.TUPLE2: lambda m: m.push_tuple(2),
    pickle.TUPLE3: lambda m: m.push_tuple(3),
    pickle.APPEND: lambda m: m.append([m.pop()]),
    pickle.APPENDS: lambda m: m.append(m.pop_marked()),
    pickle.SETITEM: lambda m: m.set_items([m.pop(), m.pop()][::-1]),
    pickle.SETITEMS: lambda m: m.set_items(m.pop_marked()),
    # the memo
    pickle.BINPUT: lambda m: m.memoize(m.number("<B")),
    pickle.LONG_BINPUT: lambda m: m.memoize(m.number("<I")),
    pickle.MEMOIZE: lambda m: m.memoize(len(m.memo)),
    pickle.BINGET: lambda m: m.recall(m.number("<B")),
    pickle.LONG_BINGET: lambda m: m.recall(m.number("<I")),
    # names
    pickle.GLOBAL: lambda m: m.global_(f"{m.line()}.{m.line()}"),
    pickle.STACK_GLOBAL: lambda m: m.stack_global(),
    pickle.REDUCE: lambda m: m.reduce(),
    pickle.BUILD: lambda m: m.set_state(m.pop()),
    pickle.BINPERSID: lambda m: m.push(m.fetch(m.pop())),
}.items()}
