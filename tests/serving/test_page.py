"""The page for people, in a real browser where there is one: it shows what the API answers, and runs nothing of it."""

import asyncio
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from selenium.webdriver.common.keys import Keys

from bertjax.data.table import Table
from bertjax.serving.page import render
from tests.support.asgi_thread import running
from tests.support.browser import FOUND, Browser, chromium
from tests.support.servers import Server

in_browser = [
    pytest.mark.browser,
    pytest.mark.skipif(not FOUND, reason="no Chromium or Chrome"),
    # selenium's own connections to its driver, closed when they are collected.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
PHONE, SCREEN = 360, 1280
MINUS = "\u2212"
MARKUP = "<img src=x onerror=alert(1)><script>alert(2)</script>&amp;"
LONG = "Donaudampfschifffahrtsgesellschaftskapitän" * 8


def model_of(task: str, table: Table | None, labels: tuple[str, ...] = ("a", "b"), **metrics: float) -> Any:
    """What the page reads of a model, which was saved without columns where there is no table."""
    columns = () if table is None else (*table.text, *table.text_pair, *table.candidates)
    predictor = SimpleNamespace(columns=columns, model=SimpleNamespace(task=task, labels=labels))
    loaded = SimpleNamespace(table=table or Table())
    return SimpleNamespace(predictor=predictor, loaded=loaded, metrics=metrics, run_id="5f3a")


QUESTIONS = Table(text=("question",), text_pair=("context",))
CHOICES = Table(text=("question",), candidates=("choices",))
PLACE = {"text": "Ada 🎉", "label": "PER", "start": 3, "end": 8, "probability": 0.99961}

# Kind -> the model, what people write into its boxes, what the API answers, what they see, what of it is marked.
KINDS: dict[str, tuple[Any, list[str], dict[str, Any], list[str], list[str]]] = {
    "classes": (
        model_of("classification", Table(text=("title", "body"))),
        ["a title", "a body"],
        {"label": "b", "probability": 0.71236, "probabilities": {"a": 0.28724, "b": 0.71236, MARKUP: 0.0004}},
        ["b 71.2%", "b\n71.2%\na\n28.7%", f"{MARKUP}\n< 0.1%"],
        [],
    ),
    "below": (
        model_of("classification", None),
        ["a text"],
        {"label": "other", "predicted": "1", "probability": 0.4, "probabilities": {"1": 0.4, "0": 0.6}, "note": [7]},
        ["other\nThe model itself says 1 (40.0%).", "note\t[7]"],
        [],
    ),
    "several": (
        model_of("multi_label", Table()),
        [LONG],
        {"labels": [LONG], "probabilities": {LONG: 0.9, "b": 0.2}},
        [f"{LONG}\n90.0%"],
        [],
    ),
    "many": (
        model_of("classification", None, tuple(map(str, range(77)))),
        ["a text"],
        {"label": "3", "probability": 0.5, "probabilities": {str(i): 0.5 if i == 3 else 0.5 / 76 for i in range(77)}},
        ["65 more"],
        [],
    ),
    "entities": (
        model_of("token_classification", Table(text=("tokens",))),
        ["🎉: Ada 🎉 wrote it in London"],
        {
            "words": ["🎉", ":", "Ada", "🎉", "wrote", "it", "in", "London"],
            "labels": ["O", "O", "B-PER", "I-PER", "O", "O", "O", "B-LOC"],
            "entities": [PLACE, {"text": "London", "label": "LOC", "start": 21, "end": 27, "probability": 0.5}],
        },
        ["🎉: Ada 🎉 PER wrote it in London LOC", "Ada 🎉\tPER\t> 99.9%", "London\tLOC\t50.0%"],
        ["Ada 🎉 PER", "London LOC"],
    ),
    "words": (
        model_of("token_classification", None),
        ["it was dull"],
        {"words": ["it", "was", "dull"], "labels": ["PRON", "AUX", "ADJ"], "entities": []},
        ["it\nPRON\nwas\nAUX\ndull\nADJ"],
        ["it", "was", "dull"],
    ),
    "answer": (
        model_of("question_answering", QUESTIONS),
        ["when ?", "🎉 in 1842 or\nin 1843 it was"],
        {"answer": "1843", "start": 16, "end": 20, "margin": 4.56789},
        ["1843\nIts score is 4.568 above that of no answer.", "🎉 in 1842 or\nin 1843 it was"],
        ["1843"],
    ),
    "no answer": (
        model_of("question_answering", None),
        ["when ?", "it was dull"],
        {"answer": "dull", "start": 7, "end": 11, "margin": -2.5},
        ["no answer\nNo answer scores 2.5 better than the best one, which is marked."],
        ["dull"],
    ),
    "left out": (
        model_of("question_answering", QUESTIONS),
        ["when ?", "it was dull"],
        {"answer": "", "start": None, "end": None, "margin": -2.5, "predicted": "dull"},
        ["no answer\nNo answer scores 2.5 better than the best one.", "it was dull"],
        [],
    ),
    "choice": (
        model_of("multiple_choice", CHOICES),
        ["which ?", "this\nthat"],
        {
            "candidate": "that", "index": 1, "probability": 0.75,
            "top": [{"candidate": "that", "index": 1, "probability": 0.75},
                    {"candidate": "this", "index": 0, "probability": 0.25}],
        },
        ["that 75.0%", "that\n75.0%\nthis\n25.0%"],
        [],
    ),
    "numbers": (
        model_of("regression", Table(), ("stars", "length")),
        ["a text"],
        {"values": {"stars": -3.21234, "length": 1e-5}},
        [f"stars\t{MINUS}3.212", "length\t0.00001"],
        [],
    ),
    "number": (model_of("regression", Table(), ("stars",)), ["a"], {"values": {"stars": 4.0}}, ["4\nstars"], []),
    "cosine": (
        model_of("sentence_embedding", Table(text=("one",), text_pair=("other",))),
        ["a film", "a book"],
        {"cosine": -0.31236},
        [f"{MINUS}0.3124"],
        [],
    ),
    "masks": (
        model_of("masked_lm", None, ()),
        ["a good [MASK]"],
        {
            "text": "a good film",
            "masks": [{"word": "film", "probability": 0.6, "start": 7, "end": 13,
                       "top": [{"word": "film", "probability": 0.6}, {"word": "book", "probability": 0.1}]}],
        },
        ["a good film\nfilm\n60.0%\nbook\n10.0%"],
        [],
    ),
    "vector": (model_of("encoder", None, ()), ["a"], {"vector": [0.6, -0.8]}, ["2 numbers", f"0.6 {MINUS}0.8"], []),
}  # fmt: skip

# What the server answers to a text -> what people read.
PROBLEMS = {
    "refused": (JSONResponse({"detail": f"text 1 is empty: {MARKUP}"}, 422), f"text 1 is empty: {MARKUP}"),
    "busy": (JSONResponse({"detail": "too much waits"}, 503), "too much waits"),
    "late": (PlainTextResponse("Request timed out after 40.0s.", 408), "Request timed out after 40.0s."),
    "mute": (Response(status_code=502), "The server answers 502 Bad Gateway."),
    "odd": (JSONResponse({}), "{}"),
}


def canned() -> FastAPI:
    """The page of each kind with a server that answers it, below a path of its own."""
    app = FastAPI()
    app.state.asked = {}

    @app.get("/{kind}/")
    async def page(kind: str) -> Response:
        return render(KINDS[kind][0], "runs/stars/model", needs_key=kind == "number")

    @app.post("/{kind}/{route}")
    async def answer(kind: str, route: str, request: Request) -> Response:
        body = await request.json()
        app.state.asked[kind] = body
        text = str(body.get("text"))
        if text.startswith("slow"):
            await asyncio.sleep(1)
            return JSONResponse({"predictions": [{"label": "slow", "probabilities": {}}]})
        if text in PROBLEMS:
            return PROBLEMS[text][0]
        if kind == "number" and request.headers.get("authorization") != "Bearer sesame":
            return JSONResponse({"detail": "the API key is missing or wrong"}, 401)
        prediction = KINDS[kind][2]
        if route == "embed":
            return JSONResponse({"embeddings": [prediction["vector"]]})
        return JSONResponse({"predictions": [prediction]})

    return app


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def app() -> FastAPI:
    return canned()


@pytest.fixture(scope="module")
def canned_server(app: FastAPI) -> Iterator[str]:
    with running(app) as address:
        yield address


def ask(browser: Browser, *texts: str) -> str:
    """Writes into the boxes, sends the form, and returns what the page then shows."""
    for box, text in zip(browser.all("textarea"), texts, strict=True):
        box.clear()
        # The driver types no characters beyond the basic plane.
        browser.driver.execute_script("arguments[0].value = arguments[1]", box, text)
    browser.driver.execute_script("document.querySelector('.drawn').replaceChildren()")
    browser.all("button")[0].click()
    browser.wait_for(".drawn > *")
    return shown(browser)


def shown(browser: Browser) -> str:
    """The text of the answer, without empty lines and repeated spaces."""
    text = str(browser.value("document.querySelector('.drawn').innerText"))
    return re.sub(r" +", " ", re.sub(r"\n+", "\n", text))


def check_layout(browser: Browser, width: int) -> None:
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.complaints() == []


class TestRealModel:
    pytestmark = in_browser

    @pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
    @pytest.mark.parametrize("width", [PHONE, SCREEN])
    def test_bars_have_the_numbers_of_the_api(self, browser: Browser, server: Server, width: int, dark: bool) -> None:
        row = {"title": "a very film", "body": "good and great ."}
        (prediction,) = server.post("/predict", {"rows": [row], "probabilities": True}).json["predictions"]

        browser.open(f"http://127.0.0.1:{server.port}/", width, dark=dark)
        assert [label.text for label in browser.all("label")][:2] == ["title", "body"]
        for box, cell in zip(browser.all("textarea"), row.values(), strict=True):
            box.send_keys(cell)
        browser.all("textarea")[1].send_keys(Keys.CONTROL, Keys.ENTER)
        browser.wait_for(".bars li")

        bars = {
            bar.find_element("css selector", "span").text: bar.find_element("css selector", ".number")
            for bar in browser.all(".bars li")
        }
        assert {name: float(str(bar.get_attribute("title"))) for name, bar in bars.items()} == prediction[
            "probabilities"
        ]
        assert {name: bar.text for name, bar in bars.items()} == {
            name: f"{100 * value:.1f}%" for name, value in prediction["probabilities"].items()
        }
        assert browser.all(".headline")[0].text.startswith(prediction["label"])
        assert str(browser.value("document.querySelector('[role=status]').textContent")).startswith(prediction["label"])
        ground = re.findall(r"\d+", str(browser.value("getComputedStyle(document.body).backgroundColor")))
        assert (sum(map(int, ground[:3])) < 3 * 128) == dark
        check_layout(browser, width)

    def test_it_asks_nobody_but_its_server(self, browser: Browser, server: Server) -> None:
        browser.open(f"http://127.0.0.1:{server.port}/")
        ask(browser, "a film", "dull")
        asked = browser.value("performance.getEntriesByType('resource').map((entry) => entry.name)")
        assert asked == [f"http://127.0.0.1:{server.port}/predict"]


class TestKinds:
    pytestmark = in_browser

    @pytest.mark.parametrize("kind", KINDS)
    def test_what_people_see(self, browser: Browser, canned_server: str, kind: str) -> None:
        model, texts, _, seen, marked = KINDS[kind]
        browser.open(f"{canned_server}/{kind}/", PHONE, dark=True)
        if kind == "number":
            browser.all("#key")[0].send_keys("sesame")
        text = ask(browser, *texts)
        for part in seen:
            assert part in text
        assert [mark.text for mark in browser.all("mark")] == marked
        check_layout(browser, PHONE)

    @pytest.mark.parametrize(
        ("kind", "body"),
        [
            ("classes", {"rows": [{"title": "a title", "body": "a body"}], "probabilities": True}),
            ("several", {"text": LONG, "probabilities": True}),
            ("answer", {"rows": [{"question": "when ?", "context": KINDS["answer"][1][1]}]}),
            ("no answer", {"pair": ["when ?", "it was dull"]}),
            ("choice", {"rows": [{"question": "which ?", "choices": ["this", "that"]}]}),
            ("vector", {"text": "a"}),
        ],
    )
    def test_what_the_server_gets(
        self, browser: Browser, canned_server: str, app: FastAPI, kind: str, body: dict[str, Any]
    ) -> None:
        browser.open(f"{canned_server}/{kind}/")
        ask(browser, *KINDS[kind][1])
        asked = app.state.asked[kind]
        assert {key: asked.get(key) for key in body} == body

    def test_a_threshold(self, browser: Browser, canned_server: str, app: FastAPI) -> None:
        browser.open(f"{canned_server}/below/", PHONE)
        browser.all("summary")[0].click()
        browser.all("#threshold")[0].send_keys("0,9")
        ask(browser, "a text")
        assert app.state.asked["below"]["threshold"] == 0.9
        browser.all("#threshold")[0].send_keys("x")
        assert "The threshold is no number." in ask(browser, "a text")

    def test_every_field_has_a_name_and_takes_the_keyboard(self, browser: Browser, canned_server: str) -> None:
        browser.open(f"{canned_server}/number/")
        fields = browser.all("textarea, input:not(#threshold), button")
        assert [field.accessible_name for field in fields] == ["text", "API key", "Predict"]
        browser.driver.execute_script("document.body.focus()")
        for field in fields:
            browser.driver.switch_to.active_element.send_keys(Keys.TAB)
            assert browser.driver.switch_to.active_element == field


class TestProblems:
    pytestmark = in_browser

    def test_markup_is_shown_and_never_run(self, browser: Browser, canned_server: str) -> None:
        browser.open(f"{canned_server}/words/")
        KINDS["words"][2]["words"][1], KINDS["words"][2]["labels"][1] = MARKUP, MARKUP
        assert f"{MARKUP}\n{MARKUP}" in ask(browser, MARKUP)
        assert browser.all("img, .drawn script") == []
        KINDS["words"][2]["words"][1], KINDS["words"][2]["labels"][1] = "was", "AUX"
        check_layout(browser, SCREEN)

    @pytest.mark.parametrize("problem", PROBLEMS)
    def test_errors_are_said_in_words(self, browser: Browser, canned_server: str, problem: str) -> None:
        browser.open(f"{canned_server}/below/", PHONE)
        assert PROBLEMS[problem][1] in ask(browser, problem)
        assert browser.all("[role=alert]")
        assert browser.value("document.documentElement.scrollWidth") <= PHONE
        assert "other" in ask(browser, "a text")  # and the next one is answered
        browser.complaints()  # a browser tells of each status from 400 on

    def test_a_wrong_key(self, browser: Browser, canned_server: str) -> None:
        browser.open(f"{canned_server}/number/")
        assert "the API key is missing or wrong" in ask(browser, "a")
        browser.all("#key")[0].send_keys("sesame")
        assert "4\nstars" in ask(browser, "a")
        browser.complaints()

    def test_the_newer_question_counts(self, browser: Browser, canned_server: str) -> None:
        browser.open(f"{canned_server}/below/")
        (box,), (button, *_) = browser.all("textarea"), browser.all("button")
        box.send_keys("slow")
        button.click()
        box.clear()
        assert "other" in ask(browser, "quick")
        browser.driver.execute_async_script("setTimeout(arguments[0], 1200)")
        assert "other" in shown(browser)

    def test_a_server_that_is_gone(self, browser: Browser) -> None:
        with running(canned()) as address:
            browser.open(f"{address}/below/")
        assert "The server cannot be reached; is it still running?" in ask(browser, "a text")
        browser.complaints()


class TestDocument:
    """What a browser is not needed for."""

    def test_it_is_self_contained_and_names_what_it_runs(self) -> None:
        page = render(KINDS["classes"][0], "runs/stars/model", needs_key=False)
        html = page.body.decode()
        assert not re.search(r"""(src|href)=["'](?!data:,)|https?://|@import|url\(""", html)
        policy = page.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert "unsafe" not in policy

    @pytest.mark.parametrize(
        ("address", "title"),
        [
            ("/data/runs/stars/model", "stars"),
            ("runs/stars", "stars"),
            ("model", "model"),
            ("models:/stars@champion", "models:/stars@champion"),
            ("some/hub-model", "hub-model"),
            ("runs/<script>", "&lt;script&gt;"),
        ],
    )
    def test_its_title_tells_no_path(self, address: str, title: str) -> None:
        html = render(KINDS["classes"][0], address, needs_key=False).body.decode()
        assert f"<h1>{title}</h1>" in html

    @pytest.mark.parametrize(
        ("model", "facts"),
        [
            (
                model_of("classification", None, **{"test/f1_macro": 0.9473}),
                "f1_macro 0.9473 on its test rows · run 5f3a",
            ),
            (model_of("regression", None, ("stars",)), "regression · 1 label · run 5f3a"),
            (model_of("masked_lm", None, ()), ">masked lm · run 5f3a<"),
        ],
    )
    def test_its_facts(self, model: Any, facts: str) -> None:
        assert facts in render(model, "stars", needs_key=False).body.decode()
