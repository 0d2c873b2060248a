"""Guided output: what comes out is a sentence of the request's language, and the same wherever it
was computed."""

import json
import os
import random
import re
import tempfile
import unittest

import grpc
import jsonschema
import schemas
import tiny_model
from cluster import SMOLLM2, Cluster, ids_request, text_request, wrong_fields
from tandem.inference.v1 import sampling_pb2

SCHEMAS = 2 * int(os.environ.get("TANDEM_PROMPTS", "100"))
AT_ONCE = 16
TRIES = 5  # seeds, for a schema whose output a model may go on with for very long
MAX_TOKENS = 2000
STOP, LENGTH = sampling_pb2.FINISH_REASON_STOP, sampling_pb2.FINISH_REASON_LENGTH
UNIFIED = dict(roles=("unified",), worker=("engine.threads=2", "engine.max_context=4096"))
SPLIT = dict(roles=("prefill", "decode"), worker=("prefill:engine.max_batch_tokens=64",
                                                  "engine.max_sequences=16",
                                                  "engine.max_context=4096"))
LIST = """start: "<" item ("," item)* ">"
item: WORD | start
WORD: /[a-z]{1,4}/"""


def random_ids(source):
    return source.choices(range(256), k=source.randrange(1, 100))


def guided(request, **grammar):
    for kind, value in grammar.items():
        if kind == "choice":
            request.guided.choice.values.extend(value)
        else:
            setattr(request.guided, kind, value)
    return request


class SentenceTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.cluster = Cluster(tiny_model.write(cls.folder.name), **SPLIT)
        cls.cluster.__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.cluster.__exit__(None, None, None)
        cls.folder.cleanup()

    def request(self, seed, **grammar):
        request = ids_request(random_ids(random.Random(seed)), MAX_TOKENS, temperature=1.0)
        request.sampling.seed = seed
        return guided(request, **grammar)

    def closed(self, wanted):
        """The answers to requests by key, each with the first seed that brings it to its end."""
        left, answers = dict(wanted), {}
        for attempt in range(TRIES):
            keys = list(left)
            for first in range(0, len(keys), AT_ONCE):
                some = keys[first:first + AT_ONCE]
                requests = [self.request(1000 * attempt + key, **left[key]) for key in some]
                for key, answer in zip(some, self.cluster.generate_all(requests)):
                    if answer.finish == STOP:
                        answers[key] = answer
                        del left[key]
                    else:
                        self.assertEqual(answer.finish, LENGTH)
        self.assertFalse(left, "no seed closes these")
        return answers

    def test_every_output_validates_under_its_schema(self):
        made = schemas.make(SCHEMAS)
        answers = self.closed({i: {"json_schema": json.dumps(s)} for i, s in enumerate(made)})
        distinct = set()
        for i, schema in enumerate(made):
            with self.subTest(i=i, schema=schema):
                validator = jsonschema.Draft202012Validator(
                    schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
                validator.validate(json.loads(answers[i].text))
                distinct.add(answers[i].text)
        self.assertGreater(len(distinct), SCHEMAS // 2)

    def test_regexes_match_and_choices_are_chosen(self):
        patterns = {0: r"[a-f]{2,5}(-[0-9]{3})*", 1: r"(ab|cd)+;?", 2: r"[0-9]{4}-[0-9]{2}",
                    3: r"[^a-z\n]{1,30}", 4: "[äöü€]{1,9}|x"}
        for key, answer in self.closed({k: {"regex": p} for k, p in patterns.items()}).items():
            self.assertTrue(re.fullmatch(patterns[key], answer.text), answer.text)
        words = ["yes", "no", "yes and no", "<|im_end|>", "(.*)"]
        chosen = {a.text for a in self.closed({i: {"choice": words} for i in range(40)}).values()}
        self.assertLessEqual(chosen, set(words))
        self.assertGreater(len(chosen), 2)

    def test_a_grammar_may_recurse(self):
        for answer in self.closed({i: {"ebnf": LIST} for i in range(10)}).values():
            self.assertEqual(answer.text.count("<"), answer.text.count(">"))
            self.assertTrue(re.fullmatch(r"[<>,a-z]+", answer.text))

    def test_any_json_object_begins_as_one(self):
        for seed in range(4):
            answer = self.cluster.generate(self.request(seed, json_object=True))
            self.assertEqual(answer.text[0], "{")
            if answer.finish == STOP:
                self.assertIsInstance(json.loads(answer.text), dict)

    def test_log_probabilities_are_those_of_the_model(self):
        free = self.request(5)
        free.response.logprobs = 3
        free.response.prompt_logprobs = 1
        held = self.request(5, regex="q+")
        held.response.CopyFrom(free.response)
        free, held = self.cluster.generate(free), self.cluster.generate(held)
        self.assertEqual(free.prompt_logprobs, held.prompt_logprobs)
        self.assertEqual(free.logprobs[0][1:], held.logprobs[0][1:])
        self.assertEqual(held.text[0], "q")

    def test_ignoring_eos_goes_on_to_the_end_of_the_language(self):
        request = self.request(1, regex="[ab]{40}")
        request.stopping.ignore_eos = True
        answer = self.cluster.generate(request)
        self.assertEqual((len(answer.text), answer.finish), (40, STOP))

    def test_a_wrong_grammar_is_told_in_the_reason_of_the_compiler(self):
        cases = (("json_schema", '{"type": "elephant"}', "elephant"),
                 ("json_schema", "{", "not JSON"),
                 ("json_schema", '{"not": {"type": "null"}}', "not"),
                 ("regex", "a(", "unclosed group"),
                 ("ebnf", "start: nothing", "nothing"))
        for kind, text, reason in cases:
            with self.subTest(kind=kind, text=text):
                error = self.cluster.failure(self.request(1, **{kind: text}))
                self.assertEqual(error.code(), grpc.StatusCode.INVALID_ARGUMENT)
                self.assertIn(f"guided.{kind}: ", error.details())
                self.assertIn(reason, error.details())
                self.assertEqual(wrong_fields(error), {f"guided.{kind}"})
        self.assertTrue(self.cluster.all_blocks_free())

    def test_sizes_are_checked_before_a_worker_is_asked(self):
        for kind, bytes_ in (("json_schema", 65537), ("regex", 16385), ("ebnf", 65537)):
            error = self.cluster.failure(self.request(1, **{kind: "x" * bytes_}))
            self.assertEqual(wrong_fields(error), {f"guided.{kind}"})


class IdentityTest(unittest.TestCase):

    def requests(self):
        source = random.Random(3)
        made = schemas.make(40, seed=9)
        grammars = [{"json_schema": json.dumps(s)} for s in made]
        grammars += [{"regex": r"([a-z]{2,6} ){5,9}\."}, {"ebnf": LIST}, {},
                     {"choice": ["one", "two", "three"]}] * 6
        for i, grammar in enumerate(grammars):
            request = ids_request(random_ids(source), 120, temperature=1.0)
            request.sampling.seed = i
            request.response.logprobs = i % 3
            request.stopping.ignore_eos = i % 5 == 0
            yield guided(request, **grammar)

    def answers(self, model, layout, at_once):
        requests = list(self.requests())
        with Cluster(model, **layout) as cluster:
            answers = []
            for first in range(0, len(requests), at_once):
                answers += cluster.generate_all(requests[first:first + at_once])
            self.assertEqual(cluster.router.metric("tandem_token_conflicts_total"), 0)
        return [answer.said() for answer in answers]

    def test_split_or_not_alone_or_in_a_batch(self):
        with tempfile.TemporaryDirectory() as folder:
            model = tiny_model.write(folder)
            alone = self.answers(model, UNIFIED, 1)
            self.assertEqual(alone, self.answers(model, UNIFIED, AT_ONCE))
            self.assertEqual(alone, self.answers(model, SPLIT, AT_ONCE))
        self.assertGreater(len({tuple(ids) for ids, *_ in alone}), len(alone) // 2)


class RealModelTest(unittest.TestCase):

    def test_smollm2_answers_in_json(self):
        schema = {"type": "object", "additionalProperties": False,
                  "properties": {"city": {"type": "string", "maxLength": 30},
                                 "country": {"enum": ["France", "Germany", "Italy"]},
                                 "population": {"type": "integer", "minimum": 1000,
                                                "maximum": 100000000}},
                  "required": ["city", "country", "population"],
                  "x-guidance": {"whitespace_flexible": False}}
        with Cluster(SMOLLM2, **SPLIT) as cluster:
            for seed in range(4):
                request = guided(text_request("Paris as JSON: ", 200, temperature=1.0),
                                 json_schema=json.dumps(schema))
                request.sampling.seed = seed
                answer = cluster.generate(request)
                self.assertEqual(answer.finish, STOP)
                jsonschema.validate(json.loads(answer.text), schema)


if __name__ == "__main__":
    unittest.main()
