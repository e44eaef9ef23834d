"""The SDK on the author's own machine: shapes of values, versions, what a workspace says it has.

What the real host makes of it is tested in the end-to-end tests.
"""

import enum
import unittest
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Annotated, Any, Literal
from unittest import mock

from epicenter_workspace import Denied, Failed, Invalid, Limit, Workspace, ai, environment, host, http
from epicenter_workspace.shapes import plain, shape_of


class Heat(enum.Enum):
    LOW = "low"
    HIGH = "high"


@dataclass
class Step:
    minutes: Annotated[int, Limit(minimum=1)]
    heat: Heat = Heat.LOW


@dataclass
class Recipe:
    id: str
    title: str
    steps: list[Step] = field(default_factory=list)
    rating: float | None = None
    kind: Literal["soup", "cake"] = "soup"
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass
class RecipeV1:
    id: str
    name: str


def cookbook() -> Workspace:
    workspace = Workspace("cookbook", version="1.2.3")
    recipes = workspace.table("recipes", Recipe)

    @recipes.previous
    def _(old: RecipeV1) -> Recipe:
        return Recipe(old.id, old.name)

    @recipes.rule("title", "must not be empty")
    def _(recipe: Recipe) -> bool:
        return recipe.title != ""

    return workspace


def issues(call, *arguments) -> list[str]:
    try:
        call(*arguments)
    except Invalid as error:
        return [f"{'.'.join(issue.path)}: {issue.message}" for issue in error.issues]
    return []


class Wit:
    """Classes of any name, which hold what they are made with."""

    def __getattr__(self, name):
        made = type(name, (SimpleNamespace,), {"__init__": lambda it, *of: it.__dict__.update(of=of)})
        setattr(self, name, made)
        return made


class Shapes(unittest.TestCase):
    def test_a_value_is_read_into_its_type_and_written_as_it_was(self):
        value = {
            "id": "1", "title": "Tea", "steps": [{"minutes": 3, "heat": "high"}], "rating": 4.5,
            "kind": "cake", "notes": {"a": [1, None]},
        }
        recipe = shape_of(Recipe).read(value)
        self.assertEqual(recipe.steps, [Step(3, Heat.HIGH)])
        self.assertEqual(plain(recipe), value)

    def test_a_whole_number_may_be_written_as_a_fraction(self):
        step = shape_of(Step).read({"minutes": 3.0})
        self.assertEqual((step.minutes, type(step.minutes)), (3, int))

    def test_all_that_is_wrong_is_said_and_where(self):
        for value, expected in [
            ({"title": "Tea"}, ["id: is required"]),
            ({"id": 1, "title": None}, ["id: must be a string, not 1", "title: must be a string, not null"]),
            (
                {"id": "1", "title": "Tea", "steps": [{"minutes": 0}, {"minutes": True}, 7]},
                [
                    "steps.0.minutes: must be at least 1",
                    "steps.1.minutes: must be a whole number, not true",
                    "steps.2: must be an object, not 7",
                ],
            ),
            ({"id": "1", "title": "Tea", "kind": "pie"}, ["kind: must be one of 'soup', 'cake'"]),
            ({"id": "1", "title": "Tea", "rating": "x"}, ['rating: must be a number, not "x"']),
            ([], [": must be an object, not a list"]),
            ({"id": "1", "title": "Tea", "steps": [{"minutes": float("inf")}]}, ["steps.0.minutes: must be a whole number, not inf"]),
        ]:
            with self.subTest(value=value):
                self.assertEqual(issues(shape_of(Recipe).read, value), expected)

    def test_the_schema_says_the_same(self):
        schema = shape_of(Recipe).schema
        self.assertEqual(schema["required"], ["id", "title"])
        self.assertEqual(schema["properties"]["rating"], {"anyOf": [{"type": "number"}, {"type": "null"}]})
        self.assertEqual(
            schema["properties"]["steps"]["items"]["properties"],
            {"minutes": {"type": "integer", "minimum": 1}, "heat": {"enum": ["low", "high"], "default": "low"}},
        )

    def test_a_type_without_json_is_refused(self):
        with self.assertRaisesRegex(TypeError, "complex.* has no JSON"):
            shape_of(complex)


class Versions(unittest.TestCase):
    def setUp(self):
        self.versions = cookbook().tables["recipes"].versions
        self.current = {"steps": [], "rating": None, "kind": "soup", "notes": {}, "_v": 2}

    def test_a_row_is_read_as_the_version_that_wrote_it(self):
        for row, title in [
            ({"id": "1", "name": "Tea", "_v": 1}, "Tea"),
            ({"id": "1", "name": "Tea"}, "Tea"),
            ({"id": "1", "title": "Soup"}, "Soup"),
            ({"id": "1", "title": "Soup", "_v": 2}, "Soup"),
        ]:
            with self.subTest(row=row):
                self.assertEqual(self.versions.parse_row(row), {"id": "1", "title": title, **self.current})

    def test_a_row_that_is_of_no_version_is_refused_with_the_reason(self):
        for row, expected in [
            ({"id": "1", "title": "x", "_v": 3}, r"_v: was written by version 3.*"),
            ({"id": "1", "title": "x", "_v": "2"}, r"_v: must be a whole number from 1 to 2.*"),
            ({"id": "1", "title": "x", "_v": True}, r"_v: must be a whole number from 1 to 2.*"),
            ({"title": "x"}, "id: is required"),
            (7, ": a row must be an object"),
            ({"id": "1", "name": "", "_v": 1}, "title: must not be empty"),
        ]:
            with self.subTest(row=row):
                self.assertRegex(issues(self.versions.parse_row, row)[0], expected)

    def test_the_schemas_number_the_versions(self):
        numbers = [schema["properties"]["_v"] for schema in self.versions.row_schemas()]
        self.assertEqual(numbers, [{"const": 1}, {"const": 2}])


class Definitions(unittest.TestCase):
    def test_the_input_of_an_action_is_its_parameters_and_its_description_the_docstring(self):
        workspace = cookbook()

        @workspace.query("numbers/double")
        def double(number: int, times: int = 1) -> int:
            """Twice a number."""
            return number * 2 * times

        @workspace.mutation("nothing")
        def nothing() -> None:
            pass

        action = workspace.actions["numbers/double"]
        self.assertEqual((action.kind, action.description), ("query", "Twice a number."))
        self.assertEqual(action.output.schema, {"type": "integer"})
        self.assertEqual(action.input.schema["required"], ["number"])
        self.assertEqual(action.run(**action.input.read({"number": 21})), 42)
        self.assertEqual((workspace.actions["nothing"].input, workspace.actions["nothing"].output), (None, None))

    def test_what_cannot_be_served_is_refused_where_it_is_written(self):
        workspace = cookbook()
        with self.assertRaisesRegex(TypeError, "does not say the type of number"):

            @workspace.query("untyped")
            def untyped(number):
                return number

        with self.assertRaisesRegex(TypeError, "must be a dataclass with a member `id: str`"):
            workspace.table("steps", Step)

    def test_the_host_is_there_inside_of_a_plugin_only(self):
        with self.assertRaisesRegex(RuntimeError, "inside of a plugin only"):
            cookbook().tables["recipes"].get("1")

    def test_an_action_reads_and_writes_the_document_of_a_row(self):
        recipes = cookbook().tables["recipes"]
        documents = mock.Mock()
        documents.get_text.return_value = "Once"
        with mock.patch("epicenter_workspace.host.documents", documents):
            recipes.set_text("1", "story", recipes.text("1", "story") + " upon a time")
        documents.get_text.assert_called_once_with("recipes", "1", "story")
        documents.set_text.assert_called_once_with("recipes", "1", "story", "Once upon a time")

    def test_a_model_is_asked_in_the_contracts_words_and_answers_in_the_authors(self):
        call = SimpleNamespace(id="c1", name="sum", arguments="{}", signature="")
        said = SimpleNamespace(text="Hi", calls=[call], thinking=[])
        reason = enum.Enum("FinishReason", ["STOP", "TOOL_CALLS"]).TOOL_CALLS
        usage = SimpleNamespace(input=1, output=2, total=3)
        wit, asked = Wit(), []
        wit.chat = lambda request: asked.append(request) or SimpleNamespace(
            model="m-1", message=said, reason=reason, usage=usage
        )
        tool = ai.ToolCall("c1", "sum", "{}")
        messages = [ai.User("Hello"), ai.Assistant("Hi", [tool]), ai.ToolResult(tool, "7")]
        tools = [ai.Tool("sum", "Adds up.", {"type": "object"})]
        with mock.patch("epicenter_workspace.host.ai", wit):
            answer = ai.chat(ai.Request("openai", "m", messages, tools=tools, options={"temperature": 0}))
        self.assertEqual(answer, ai.Answer("m-1", ai.Assistant("Hi", [tool]), "tool-calls", 1, 2, 3))
        provider, model, system, sent, offered, options = asked[0].of
        self.assertEqual((provider, model, system, options), ("openai", "m", "", '{"temperature": 0}'))
        self.assertEqual([type(message).__name__ for message in sent],
                         ["Message_User", "Message_Assistant", "Message_ToolResult"])
        self.assertEqual(sent[2].of[0].of, ("c1", "sum", "7"))
        self.assertEqual(offered[0].of, ("sum", "Adds up.", '{"type": "object"}'))


class Requests(unittest.TestCase):
    URL = "https://example.com/tea"

    def send(self, answer, call, *arguments, **options):
        """What a request was sent as, and what is made of its answer."""
        wit, asked = Wit(), []
        status, headers, body = answer
        fields = [SimpleNamespace(name=name, value=value) for name, value in headers]
        answer = SimpleNamespace(status=status, headers=fields, body=body)
        wit.send = lambda request: asked.append(request) or answer
        with mock.patch("epicenter_workspace.host.http", wit):
            given = call(*arguments, **options)
        method, url, headers, sent = asked[0].of
        return given, (method, url, [header.of for header in headers], sent)

    def test_a_request_is_sent_as_it_is_meant(self):
        json = ("content-type", "application/json")
        for call, arguments, options, expected in [
            (http.get, [self.URL], {}, ("GET", self.URL, [], b"")),
            (http.get, [self.URL], {"params": {"q": "a b&ü", "n": 1}}, ("GET", f"{self.URL}?q=a+b%26%C3%BC&n=1", [], b"")),
            (http.get, [f"{self.URL}?a=1"], {"params": {"b": [2, 3]}}, ("GET", f"{self.URL}?a=1&b=2&b=3", [], b"")),
            (http.post, [self.URL], {"body": "茶 🍵"}, ("POST", self.URL, [], "茶 🍵".encode())),
            (http.post, [self.URL], {"body": b"\xff"}, ("POST", self.URL, [], b"\xff")),
            (http.post, [self.URL], {"json": Step(3)}, ("POST", self.URL, [json], b'{"minutes": 3, "heat": "low"}')),
            (http.post, [self.URL], {"json": None}, ("POST", self.URL, [json], b"null")),
            (
                http.request, ["PUT", self.URL], {"json": "茶", "headers": {"Content-Type": "x/y"}},
                ("PUT", self.URL, [("Content-Type", "x/y")], '"茶"'.encode()),
            ),
        ]:
            with self.subTest(options=options):
                self.assertEqual(self.send((200, [], b""), call, *arguments, **options)[1], expected)

    def test_an_answer_is_read_as_text_as_json_or_as_bytes(self):
        headers = [("content-type", "text/x"), ("vary", "a"), ("vary", "b")]
        body = b"\xef\xbb\xbf" + '{"tea": "茶"}'.encode()
        answer, _ = self.send((404, headers, body), http.get, self.URL)
        self.assertEqual((answer.status, answer.ok), (404, False))
        self.assertEqual(answer.headers, {"content-type": "text/x", "vary": "a, b"})
        self.assertEqual((answer.text, answer.json(), answer.body), ('{"tea": "茶"}', {"tea": "茶"}, body))
        broken, _ = self.send((200, [], b"a\xff\xe2\x82b"), http.get, self.URL)
        self.assertEqual((broken.ok, broken.text), (True, "a\ufffd\ufffdb"))
        with self.assertRaisesRegex(Failed, r"the answer \(200\) is not JSON: "):
            broken.json()

    def test_what_the_host_refuses_is_an_error_of_the_sdk(self):
        class Refused(host.Err):
            pass

        class DeniedByHost:
            value = "not that one"

        def refuse(_):
            error = Refused()
            error.value = DeniedByHost()
            raise error

        types = SimpleNamespace(Error_NotFound=int, Error_Invalid=float, Error_Conflict=str, Error_Denied=DeniedByHost)
        with mock.patch("epicenter_workspace.host.types", types):
            with mock.patch("epicenter_workspace.host.environment", SimpleNamespace(get=refuse)):
                with self.assertRaisesRegex(Denied, "not that one"):
                    environment("KEY")
            with mock.patch("epicenter_workspace.host.environment", SimpleNamespace(get={"KEY": "secret"}.get)):
                self.assertEqual((environment("KEY"), environment("NONE")), ("secret", None))


if __name__ == "__main__":
    unittest.main()
