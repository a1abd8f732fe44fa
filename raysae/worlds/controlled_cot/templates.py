"""How a step can be worded: nine cores per step type, each with a frame a template family of its own.

A core ends with the word that completes the step, five to seven words long. A step is rendered in 8 to 10 words,
whatever its type, an opener filling it up, so that neither length nor the words before it tell types apart. OPERATE and
VERIFY share their cores: only what was said before makes `12 plus 7 is 19` the one or the other.

A core has a form for each kind of content: `sum` for arithmetic and unit conversion ({a} {o} {b}: operands and
operator, {n} and {s} its noun and sign), `price` for looking {i} up in the list, `shared` for what the sets of {p} and
{q} have in common; `fact` for something that the question gives of {p}, and `value` for a result {r}.
"""

from raysae.worlds.controlled_cot.words import (
    DECOMPOSE,
    FORMAT,
    OPERATE,
    PARSE,
    TRAINED_FRAMES,
    UNSEEN_FRAMES,
    VERIFY,
)

_EQUATIONS = (
    {"sum": "{a} {o} {b} comes to {r}", "price": "price of {i} comes to {r}", "shared": "{p} and {q} share in {r}"},
    {"sum": "{a} {o} {b} makes up {r}", "price": "price of {i} makes up {r}", "shared": "{p} and {q} both want {r}"},
    {"sum": "{n} of {a} and {b} : {r}", "price": "price on {i} : {r}", "shared": "shared by {p} and {q} : {r}"},
    {"sum": "{a} {o} {b} is {r}", "price": "price of {i} is {r}", "shared": "{p} and {q} share {r}"},
    {
        "sum": "from {a} {o} {b} we get {r}",
        "price": "from list {i} we get {r}",
        "shared": "from {p} and {q} we get {r}",
    },
    {"sum": "{a} {o} {b} turns into {r}", "price": "{i} in list turns into {r}", "shared": "{p} and {q} meet in {r}"},
    {"sum": "{a} {s} {b} = {r}", "price": "cost of {i} = {r}", "shared": "{p} & {q} = {r}"},
    {"sum": "{a} {s} {b} does equal {r}", "price": "cost of {i} equal {r}", "shared": "{p} & {q} does equal {r}"},
    {"sum": "with {a} {s} {b} stands {r}", "price": "with cost {i} stands {r}", "shared": "with {p} & {q} stands {r}"},
)

CORES: dict[str, tuple[dict[str, str], ...]] = {
    PARSE: tuple(
        {"fact": text}
        for text in (
            "{p} is said to have {r}",
            "it says {p} has {r}",
            "given : {p} has got {r}",
            "the story gives {p} {r}",
            "{p} begins off with {r}",
            "we read {p} owns {r}",
            "known : {p} , {r}",
            "in text {p} keeps {r}",
            "told amount of {p} {r}",
        )
    ),
    DECOMPOSE: (
        {"sum": "we need {a} {o} {b}", "price": "we need price of {i}", "shared": "we need both {p} {q}"},
        {"sum": "we have to get {a} {o} {b}", "price": "we have to get {i}", "shared": "we have to get {p} {q}"},
        {"sum": "needed : {n} of {a} {b}", "price": "needed : price on {i}", "shared": "needed : shared by {p} {q}"},
        {"sum": "what we want is {a} {o} {b}", "price": "what we want is {i}", "shared": "what we want is {p} {q}"},
        {"sum": "a part is {a} {o} {b}", "price": "a part is price {i}", "shared": "a part is {p} {q}"},
        {"sum": "plan for {a} {o} {b}", "price": "plan for price of {i}", "shared": "plan for both {p} {q}"},
        {"sum": "task : {a} {s} {b}", "price": "task : the cost {i}", "shared": "task : {p} & {q}"},
        {"sum": "try to work {a} {s} {b}", "price": "try to work cost {i}", "shared": "try to work {p} {q}"},
        {"sum": "open is still {a} {s} {b}", "price": "open is still cost {i}", "shared": "open is still {p} {q}"},
    ),
    OPERATE: _EQUATIONS,
    VERIFY: _EQUATIONS,
    FORMAT: tuple(
        {"value": text}
        for text in (
            "the answer we have is {r}",
            "we report back with {r}",
            "result to write : {r}",
            "write down the value {r}",
            "this leaves us with {r}",
            "in short it is {r}",
            "output : it is {r}",
            "say out loud the {r}",
            "reply with value of {r}",
        )
    ),
}
TRAINED_CORES, UNSEEN_CORES = (0, 1, 2, 3, 4, 5), (6, 7, 8)

FAMILIES = {
    "TRAINED": tuple((core, frame) for core in TRAINED_CORES for frame in TRAINED_FRAMES),
    "UNSEEN": tuple((core, frame) for core in UNSEEN_CORES for frame in UNSEEN_FRAMES),
}
"""Template families of each step type: (core, frame). A whole family, its core and its frame, is on one side."""

QUESTION = {
    "amount": "{p} has {r} .",
    "rate": "per {p} come {r} .",
    "price": "{i} costs {r} .",
    "wants": "{p} wants {i} {j} .",
}
ASK, ANSWER = "find {f} ?", "done {r}"
OPERATORS = {"plus": ("plus", "sum", "+"), "minus": ("minus", "difference", "-"), "times": ("times", "product", "*")}
"""Operation -> the word, the noun and the sign for it."""
BOTH, WITH = "both", "with"
"""In a question: what two sets have in common, and the sum of two parts."""

TEXTS = (
    *(text for cores in CORES.values() for core in cores for text in core.values()),
    *(*QUESTION.values(), ASK, ANSWER, BOTH, WITH),
    *(word for words in OPERATORS.values() for word in words),
    *("a", "the", "to", "by", "is", "it", "."),
)
