"""JSON schemas of many kinds, made from a seed."""

import random

WORDS = ("name", "age", "tags", "id", "size", "kind", "note", "größe", "a b", "x\"y", "$id2", "")
PATTERNS = ("^[a-z]{1,5}$", "^\\d{3}-\\d{2,4}$", "^(yes|no)$", "^[A-F0-9]{6}$", "^.{2,4}$",
            "^a+b?c{2}$", "^[^\"\\\\]{1,6}$")
FORMATS = ("date", "ipv4", "uuid", "ipv6", "email", "date-time", "time")


class Maker:
    """Bounded schemas: whatever a model draws, the output closes within some hundred tokens."""

    def __init__(self, seed):
        self.draw = random.Random(seed)

    def string(self):
        kind = self.draw.randrange(4)
        if kind == 0:
            return {"type": "string", "pattern": self.draw.choice(PATTERNS)}
        if kind == 1:
            return {"type": "string", "format": self.draw.choice(FORMATS), "maxLength": 40}
        least = self.draw.randrange(0, 4)
        return {"type": "string", "minLength": least, "maxLength": least + self.draw.randrange(8)}

    def integer(self):
        low = self.draw.randrange(-1000, 1000)
        schema = {"type": "integer", "minimum": low,
                  "maximum": low + self.draw.randrange(20, 2000)}
        if self.draw.random() < 0.3:
            schema["exclusiveMinimum"] = schema.pop("minimum")
        if self.draw.random() < 0.3:
            schema["multipleOf"] = self.draw.choice((2, 3, 5, 10))
        return schema

    def number(self):
        low = round(self.draw.uniform(-50, 50), 2)
        return {"type": "number", "minimum": low,
                "exclusiveMaximum": round(low + self.draw.uniform(0.5, 100), 2)}

    def choice(self):
        values = [1, -2.5, "x", "two words", None, True, [1, 2], {"k": "v"}, "ü\n\"", 0]
        return {"enum": self.draw.sample(values, self.draw.randrange(1, 6))}

    def constant(self):
        return {"const": self.draw.choice([{"a": [1, {"b": None}]}, "c", 3.25, [], {}, False])}

    def simple(self):
        make = self.draw.choice((self.string, self.string, self.integer, self.number, self.choice,
                                 self.constant, lambda: {"type": "boolean"},
                                 lambda: {"type": "null"},
                                 lambda: {"type": ["integer", "null"], "minimum": 0,
                                          "maximum": 99}))
        return make()

    def array(self, depth):
        if self.draw.random() < 0.3:
            return {"type": "array", "prefixItems": [self.any(depth - 1) for _ in range(2)],
                    "items": False, "minItems": self.draw.randrange(3)}
        least = self.draw.randrange(3)
        return {"type": "array", "items": self.any(depth - 1), "minItems": least,
                "maxItems": least + self.draw.randrange(3)}

    def object(self, depth):
        names = self.draw.sample(WORDS, self.draw.randrange(0, 5))
        schema = {"type": "object", "additionalProperties": False,
                  "properties": {name: self.any(depth - 1) for name in names},
                  "required": [name for name in names if self.draw.random() < 0.6]}
        if self.draw.random() < 0.2:
            schema["patternProperties"] = {"^p_[a-c]$": self.simple()}
        return schema

    def union(self, depth):
        return {"anyOf": [self.any(depth - 1) for _ in range(self.draw.randrange(1, 4))]}

    def exclusive(self):
        return {"oneOf": [self.integer(), self.string(), {"type": "null"}]}

    def all_of(self):
        low = self.draw.randrange(100)
        return {"allOf": [{"type": "integer", "minimum": low}, {"maximum": low + 50}]}

    def any(self, depth):
        if depth <= 0 or self.draw.random() < 0.3:
            return self.simple()
        return self.draw.choice((self.array, self.object, self.object, self.union,
                                 lambda _: self.exclusive(), lambda _: self.all_of()))(depth)

    def with_definitions(self):
        return {"$defs": {"leaf": self.simple(),
                          "pair": {"type": "array", "items": {"$ref": "#/$defs/leaf"},
                                   "minItems": 2, "maxItems": 2}},
                "type": "object", "additionalProperties": False,
                "properties": {"one": {"$ref": "#/$defs/pair"}, "two": {"$ref": "#/$defs/leaf"}},
                "required": ["one"]}

    def recursive(self):
        return {"$ref": "#/$defs/node",
                "$defs": {"node": {"type": "object", "additionalProperties": False,
                                   "properties": {"value": self.simple(),
                                                  "next": {"anyOf": [{"type": "null"},
                                                                     {"$ref": "#/$defs/node"}]}},
                                   "required": ["value", "next"]}}}

    def schema(self, i):
        """The i-th: every kind comes at the root, and mixtures of them to some depth."""
        roots = (self.string, self.integer, self.number, self.choice, self.constant,
                 self.exclusive, self.all_of, self.with_definitions, self.recursive,
                 lambda: self.array(2), lambda: self.object(3), lambda: self.union(2),
                 lambda: self.object(4), lambda: self.array(3), lambda: self.any(4))
        return roots[i % len(roots)]()


def make(count, seed=1):
    maker = Maker(seed)
    return [maker.schema(i) for i in range(count)]
