"""The page of a model: its contents, and its behaviour in a browser."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest

import d2l_deeprnn as d2l
from d2l_deeprnn import cli
from d2l_deeprnn._mxnet import gluon, mx, nd
from d2l_deeprnn.export import ExportError, html
from d2l_deeprnn.export.network import WEIGHTS, Export
from d2l_deeprnn.generation.generate import generate
from d2l_deeprnn.text.cleaning import clean_text

VOCAB = d2l.Vocab("abcdefghijklmnopqrstuvwxyz ,.'")


def mixed():
    stack = gluon.rnn.SequentialRNNCell()
    stack.add(gluon.rnn.LSTMCell(9))
    stack.add(gluon.rnn.ResidualCell(gluon.rnn.GRUCell(9)))
    return stack


LAYERS = {
    "lstm": lambda: gluon.rnn.LSTM(10, num_layers=2),
    "gru": lambda: gluon.rnn.GRU(11, num_layers=3),
    "rnn_tanh": lambda: gluon.rnn.RNN(9, activation="tanh"),
    "rnn_relu": lambda: gluon.rnn.RNN(9, num_layers=2, activation="relu"),
    "stacked": lambda: d2l.StackedRNN("lstm", 8, 2, 0.5, len(VOCAB)),
    "mixed cells": mixed,
    "residual first": lambda: gluon.rnn.ResidualCell(gluon.rnn.LSTMCell(len(VOCAB))),
}


def a_model(layer, scale=0.5, vocab=VOCAB):
    # Always the same draw, in which rounding does not decide between two characters.
    d2l.set_seed(1)
    model = d2l.RNNModel(layer, len(vocab))
    model.initialize(mx.init.Normal(scale))
    model(nd.array([[1]]), model.begin_state(batch_size=1))
    return model


def exported(
    layer="lstm", vocab=VOCAB, *, lower=True, fold_whitespace=True, source=None, scale=0.5
):
    model = a_model(LAYERS[layer](), scale, vocab)
    return Export.of(model, vocab, lower, fold_whitespace, source)


class Page(HTMLParser):
    """A page's elements, taken apart as a browser does."""

    void = {"meta", "link", "br", "img", "input"}

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.inside = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.inside.append("")
        if tag not in self.void:
            self.open.append((tag, len(self.inside) - 1))

    def handle_endtag(self, tag):
        if tag not in self.void:
            assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if self.open:
            self.inside[self.open[-1][1]] += data

    def all(self, tag):
        return [
            (attributes, inside)
            for (name, attributes), inside in zip(self.elements, self.inside)
            if name == tag
        ]

    @property
    def model(self):
        (data,) = [inside for attributes, inside in self.all("script") if "id" in attributes]
        return json.loads(data)


def decoded(data, dtype):
    return np.frombuffer(base64.b64decode(data), html.DTYPES[dtype])


# Contents ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("layer", LAYERS)
def test_the_parameters_are_the_models(layer, dtype):
    export = exported(layer)
    model = Page(html.web_page(export, float32=dtype == "float32")).model
    network = export.network
    assert model["dtype"] == dtype and len(model["layers"]) == len(network.layers)
    pairs = [
        (model["dense_weight"], network.dense_weight),
        (model["dense_bias"], network.dense_bias),
    ]
    for inside, layer_of_network in zip(model["layers"], network.layers):
        assert inside["cell"] == layer_of_network.mode
        assert inside["num_hiddens"] == layer_of_network.num_hiddens
        assert inside["residual"] == layer_of_network.residual
        pairs += [(inside[name], getattr(layer_of_network, name)) for name in WEIGHTS]
    for data, array in pairs:
        np.testing.assert_array_equal(decoded(data, dtype), array.astype(dtype).ravel())


def test_half_precision_is_the_default_and_halves_the_page():
    export = exported()
    pages = [html.web_page(export, float32=dtype == "float32") for dtype in ("float16", "float32")]
    assert html.web_page(export) == pages[0]
    sizes = [len(json.dumps(Page(page).model)) for page in pages]
    assert 0.4 < sizes[0] / sizes[1] < 0.65
    assert "in half precision" in pages[0] and "rounded to half precision" in pages[0]
    assert "in single precision" in pages[1] and "half precision" not in pages[1]


def test_it_runs_its_own_script_and_loads_nothing():
    text = html.web_page(exported())
    page = Page(text)
    (policy,) = [a["content"] for a, _ in page.all("meta") if a.get("http-equiv")]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))

    def named(element):
        return f"'sha256-{base64.b64encode(hashlib.sha256(element.encode()).digest()).decode()}'"

    ((_, style),) = page.all("style")
    (script,) = [inside for attributes, inside in page.all("script") if not attributes]
    assert rules == {
        "default-src": "'none'",
        "script-src": named(script),
        "style-src": named(style),
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    # The policy comes before everything that it applies to.
    first = [tag for tag, _ in page.elements].index("meta")
    assert page.elements[first + 1][1].get("http-equiv") == "Content-Security-Policy"
    assert not {"img", "iframe", "object", "embed", "a", "audio", "video"} & {
        tag for tag, _ in page.elements
    }
    for _, attributes in page.elements:
        assert "src" not in attributes and "style" not in attributes
        assert attributes.get("href", "data:").startswith("data:")
        assert not [name for name in attributes if name.startswith("on")]
    assert "://" not in text and "url(" not in style and "@import" not in style
    assert not re.search(r"\b(fetch|XMLHttpRequest|WebSocket|import|eval|innerHTML)\b", script)


EVIL = "</script></textarea><script>alert(1)</script>&amp;"


def test_user_input_is_not_markup():
    vocab = d2l.Vocab("<>&/'\"\\\u2028é\ud83d😀a")
    text = html.web_page(exported(vocab=vocab), title=EVIL, beginning=EVIL)
    page = Page(text)
    assert len(page.all("script")) == 2
    assert page.all("title")[0][1] == page.all("h1")[0][1] == EVIL
    about = {a.get("property", a.get("name")): a["content"] for a, _ in page.all("meta")[1:]}
    assert about["og:title"] == EVIL and about["description"] == about["og:description"]
    assert about["description"].startswith("2 LSTM layers of 10 hidden units, ")
    ((_, beginning),) = page.all("textarea")
    assert beginning == "\n" + EVIL
    assert page.model["tokens"] == [None, *vocab.idx_to_token[1:]]
    data = text.split('id="model">')[1].split("</script>")[0]
    assert data.isascii() and not set("<>&") & set(data)


def test_special_tokens_are_not_characters():
    vocab = d2l.Vocab("abc", use_special_tokens=True)
    page = Page(html.web_page(exported(vocab=vocab)))
    assert page.model["tokens"] == [None] * 4 + ["a", "b", "c"]
    assert ", 3 different characters, " in page.all("p")[0][1]
    with pytest.raises(ExportError, match="the vocabulary has no characters"):
        html.web_page(exported(vocab=d2l.Vocab([])))


@pytest.mark.parametrize(
    "layer, words",
    [
        (
            "lstm",
            "2 LSTM layers of 10 hidden units, 30 different characters, 2,941 parameters in half",
        ),
        ("rnn_tanh", "1 plain recurrent layer (tanh) of 9 hidden units, 30 different"),
        ("mixed cells", "1 LSTM layer of 9 hidden units, then 1 GRU layer of 9 hidden units with"),
    ],
)
def test_it_describes_the_model(layer, words):
    export = exported(layer)
    page = html.web_page(export)
    assert words in page
    if layer == "lstm":
        assert sum(p.data().size for p in export.model.collect_params().values()) == 2941


def test_before_its_script_runs_it_says_what_will_happen_and_what_to_look_at():
    shown = [" ".join(inside.split()) for _, inside in Page(html.web_page(exported())).all("p")]
    assert "The network is about to write …" in shown
    (look,) = (words for words in shown if words.startswith("Watch the colours "))
    assert look.count(".") == 1


def test_the_title_names_the_text():
    def title(*corpus):
        source = {"settings": {"corpus": list(corpus)}}
        return Page(html.web_page(exported(source=source))).all("title")[0][1]

    assert title("time_machine") == "A recurrent network trained on The Time Machine"
    assert title("some/of mine.txt", "time_machine", "b.txt").endswith(
        "on of mine.txt, The Time Machine and b.txt"
    )
    assert Page(html.web_page(exported())).all("title")[0][1] == "A recurrent network that writes"
    # a name of bytes that are not UTF-8
    written = io.BytesIO()
    html.write(exported(source={"settings": {"corpus": ["a\udcff"]}}), written)
    assert b"on a\\udcff</title>" in written.getvalue()


def test_cleaning_is_described_and_recorded():
    for lower, fold, words in [
        (True, True, ": upper case becomes lower case, and any run of white space becomes one"),
        (True, False, "is cleaned like the model's text: upper case becomes lower case."),
        (False, True, "text: any run of white space becomes one space."),
        (False, False, "The beginning is read as typed."),
    ]:
        text = html.web_page(exported(lower=lower, fold_whitespace=fold))
        assert words in text
        assert Page(text).model["cleaning"] == {"lower": lower, "fold_whitespace": fold}


def test_white_space_is_the_same_as_in_python():
    script = html._part("network.js")
    (pattern,) = re.findall(r"const WHITE_SPACE = /(\[.*\]\+)/g;", script)
    for code in range(0x11000):
        assert bool(re.fullmatch(pattern, chr(code))) == bool(re.fullmatch(r"\s", chr(code))), code


def test_values_beyond_half_precision_are_rejected():
    export = exported()
    export.model.dense.bias.set_data(nd.array([70000.0] * len(VOCAB)))
    export = Export.of(export.model, VOCAB, True, True)
    with pytest.raises(ExportError, match="dense_bias has values up to 70000, .*--float32"):
        html.web_page(export)
    assert html.web_page(export, float32=True)


def test_the_page_of_a_run(tmp_path, capsys):
    (tmp_path / "text.txt").write_text("Some Words\n\nto learn from, again and again. " * 40)
    train = "train --num-epochs 1 --num-hiddens 6 --cell gru --keep-case --batch-size 4"
    files = ["--corpus", str(tmp_path / "text.txt"), "--out", str(tmp_path / "run")]
    assert cli.main([*train.split(), *files]) == 0
    path, float32 = tmp_path / "half.html", tmp_path / "single.html"
    command = ["export", str(tmp_path / "run"), "--format", "html", "--output"]
    assert cli.main([*command, str(path)]) == 0
    assert cli.main([*command, str(float32), "--float32"]) == 0
    page, model = Page(path.read_text()), d2l.load_run(tmp_path / "run").model
    assert page.all("title")[0][1] == "A recurrent network trained on text.txt"
    # It begins with the first words of the held-out text, and samples.
    assert initial(page) == ("0.7", "Words to learn from, again and again.")
    assert page.model["cleaning"] == {"lower": False, "fold_whitespace": True}
    assert page.model["dtype"] == "float16"
    weight = Page(float32.read_text()).model["layers"][1]["h2h_weight"]
    expected = model.rnn.l1_h2h_weight.data().asnumpy().ravel()
    np.testing.assert_array_equal(decoded(weight, "float32"), expected)
    assert cli.main([*command, str(path)]) == 2
    assert "half.html already exists" in capsys.readouterr().err
    # If the text is gone, the rest of the page is the same.
    (tmp_path / "text.txt").unlink()
    path.unlink()
    assert cli.main([*command, str(path)]) == 0
    assert initial(Page(path.read_text())) == ("0.7", "")


def initial(page):
    """The temperature and the beginning that a page has when it is opened."""
    (temperature,) = [a["value"] for a, _ in page.all("input") if a["id"] == "temperature"]
    return temperature, page.all("textarea")[0][1][1:]


def test_models_that_recite_take_the_most_likely_character():
    assert initial(Page(html.web_page(exported(), beginning="traveller"))) == ("0", "traveller")
    source = {"settings": {"valid_fraction": 0.0}}
    assert initial(Page(html.web_page(exported(source=source)))) == ("0", "")


# In a browser ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """A browser without a window; skipped where there is none."""
    pytest.importorskip("selenium", reason="needs selenium: pip install -e '.[browser]'")
    from selenium import webdriver

    names = ["chromium", "chromium-browser", "google-chrome"]
    chromium = next(filter(None, map(shutil.which, names)), None)
    chromedriver = shutil.which("chromedriver")
    if not (chromium and chromedriver):
        pytest.skip("needs Chromium and chromedriver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    words = ["headless=new", "disable-gpu", "disable-quic", "no-first-run"]
    words += ["disable-background-networking", "disable-component-update", "disable-sync"]
    words.append("force-prefers-reduced-motion")  # or each page would write when opened
    words += [f"user-data-dir={tmp_path_factory.mktemp('browser')}"]
    if os.geteuid() == 0:  # whom Chromium's sandbox does not let in
        words.append("no-sandbox")
    for word in words:
        options.add_argument(f"--{word}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(executable_path=chromedriver))
    yield driver
    driver.quit()


class Browser:
    """A page in the browser."""

    def __init__(self, driver, path):
        self.driver = driver
        driver.get("about:blank")
        driver.get_log("performance"), driver.get_log("browser")  # of what was there before
        driver.get(path.as_uri())
        self.url = path.as_uri()

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def set(self, name, value, event="input"):
        """Set a field as a user does who types or chooses."""
        self.run(
            "const e = document.getElementById(arguments[0]); e.value = arguments[1];"
            "e.dispatchEvent(new Event(arguments[2], {bubbles: true}))",
            name, str(value), event,
        )  # fmt: skip

    def click(self, selector):
        self.run("document.querySelector(arguments[0]).click()", selector)

    def wait(self):
        """Wait until the model neither reads nor writes."""
        self.wait_for(lambda: self.run("return running === null"))

    def wait_for(self, condition):
        from selenium.webdriver.support.wait import WebDriverWait

        WebDriverWait(self.driver, 3600).until(lambda _: condition())

    def write(self, beginning, length, **fields):
        self.set("beginning", beginning)
        fields = {"length": length, "pace": 0, **fields}
        for name, value in fields.items():
            self.set(name.replace("_", "-"), value)
        self.click("#start")
        self.wait()
        return self.text

    @property
    def text(self):
        return self.run("return document.getElementById('text').textContent")

    @property
    def status(self):
        return self.run("return document.getElementById('status').textContent")

    def complaints(self):
        """Return the console's messages and the addresses that were requested."""
        found = [entry["message"] for entry in self.driver.get_log("browser")]
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] in ("Network.requestWillBeSent", "Network.webSocketCreated"):
                url = message["params"].get("request", message["params"])["url"]
                if url != self.url and not url.startswith("data:"):
                    found.append(url)
        return found


@pytest.fixture
def browse(driver, tmp_path):
    """Open the page of an export; its console must stay empty, and it must request nothing."""
    opened = []

    def browse(export, **options):
        path = tmp_path / f"page {len(opened)}.html"
        path.write_text(html.web_page(export, **options), encoding="utf-8")
        opened.append(Browser(driver, path))
        return opened[-1]

    yield browse
    for page in opened[-1:]:
        assert page.complaints() == []


@pytest.mark.parametrize("layer", LAYERS)
def test_the_network_of_the_page_computes_what_the_model_does(browse, layer):
    export = exported(layer)
    page = browse(export, float32=True)
    indices = [i % len(VOCAB) for i in range(3, 40, 3)]
    scores, state = page.run(
        "const s = network.beginState();"
        "return [arguments[0].map((i) => Array.from(network.step(i, s))), Array.from(s)]",
        indices,
    )
    zeros = [np.zeros((1, size), "float32") for size in export.network.states.values()]
    expected, new = export.network.forward(np.array([indices]), zeros)
    np.testing.assert_allclose(scores, expected[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(state, np.concatenate(new, axis=1)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_it_writes_what_generate_does(browse, tmp_path, cell):
    """With a trained model: random ones repeat a few characters."""
    train = f"train --corpus the_tide_tables --num-examples 800 --cell {cell} --num-hiddens 64"
    train += " --batch-size 4 --num-steps 25 --optimizer adam --lr 0.01 --num-epochs 100"
    assert cli.main([*train.split(), "--valid-fraction", "0", "--out", str(tmp_path / "run")]) == 0
    run = d2l.load_run(tmp_path / "run")
    (expected,) = generate(run.model, run.vocab, ["the time"], 500)
    assert len(set(expected[100:])) > 15 and expected.count(" ") > 50
    page = browse(Export.of(run.model, run.vocab, True, True), float32=True)
    assert page.write("The\n  Time", 500) == expected
    assert re.fullmatch(r"Wrote 500 characters at [\d,]+ per second\.", page.status)
    assert len(page.run("return text.filter((c) => c.given)")) == len("the time")
    # in parts: the state is kept
    page.write("the time", 200)
    page.set("length", 299)
    page.click("#continue")
    page.wait()
    page.click("#one")
    page.wait()
    assert page.text == expected
    # a draw from one candidate is the most likely character
    assert page.write("the time", 500, temperature=1.5, top_k=1) == expected


def test_half_precision_floats_are_decoded(browse):
    page = browse(exported())
    bits = [b for b in range(0x10000) if (b >> 10) & 31 != 31]
    floats = page.run("return arguments[0].map(half)", bits)
    np.testing.assert_array_equal(floats, np.array(bits, np.uint16).view(np.float16))


def test_drawing(browse):
    page = browse(exported(scale=0.9))
    first = page.write("abc", 200, temperature=0.8, seed=7)
    assert page.status.endswith(", seed 7.")
    assert page.write("abc", 200, seed=8) != first
    assert page.write("abc", 200, seed=7) == first
    assert page.write("abc", 100, seed="") != page.write("abc", 100, seed="")
    # Relative frequencies are close to the probabilities.
    drawn, probabilities = page.run(
        "const random = new Random(5), scores = network.step(3, network.beginState());"
        "const counts = new Array(network.vocabSize).fill(0);"
        "const how = {temperature: 0.7, topK: 4, random};"
        "for (let i = 0; i < 20000; i++) counts[choose(scores, allowed, how)] += 1;"
        "const {order, probabilities} = candidates(scores, allowed, 0.7, 4);"
        "return [order.map((i) => counts[i]), probabilities]"
    )
    assert sum(drawn) == 20000 and len(drawn) == 4
    expected = np.array(probabilities) * 20000
    assert (np.abs(drawn - expected) < 5 * np.sqrt(expected)).all()
    spread = page.run("const r = new Random(1); return Array.from({length: 1e5}, () => r.next())")
    assert min(spread) >= 0 and max(spread) < 1
    assert np.abs(np.histogram(spread, 10, (0, 1))[0] - 1e4).max() < 5 * np.sqrt(1e4)


def test_the_bars_are_the_probabilities_and_can_be_taken(browse):
    export = exported(scale=0.9)
    page = browse(export, float32=True)
    page.write("abc", 10)
    names, values = page.run(
        "const b = [...document.querySelectorAll('#bars button')];"
        "const shown = (e) => e.querySelector('.percent').textContent;"
        "return [b.map((e) => tokens[e.value]), b.map(shown)]"
    )
    indices = VOCAB[list(page.text)]
    zeros = [np.zeros((1, size), "float32") for size in export.network.states.values()]
    scores = export.network.forward(np.array([indices]), zeros)[0][0]
    last = np.exp(scores[-1, 1:]) / np.exp(scores[-1, 1:]).sum()  # without <unk>
    order = np.argsort(-last, kind="stable")[: len(names)]
    assert names == [VOCAB.idx_to_token[i + 1] for i in order]
    shown = [float(value.replace("< ", "").replace(" %", "")) for value in values]
    np.testing.assert_allclose(shown, 100 * last[order], atol=0.1)
    # Another one than the most likely, after the second character: the rest of the text goes.
    page.run("look(1)")
    taken = page.run("return tokens[document.querySelectorAll('#bars button')[2].value]")
    page.click("#bars li:nth-child(3) button")
    page.wait()
    assert page.text == "ab" + taken
    page.set("length", 30)
    page.click("#continue")
    page.wait()
    assert page.text == generate(export.model, VOCAB, ["ab" + taken], 30)[0]


def test_the_colours_are_the_values_of_the_unit(browse):
    export = exported(scale=0.9)
    page = browse(export, float32=True)
    text = page.write("abc", 40)
    indices = VOCAB[list(text)]
    state = [np.zeros((1, size), "float32") for size in export.network.states.values()]
    names, values = list(export.network.states), []
    for index in indices:
        _, state = export.network.forward(np.array([[index]]), state)
        values.append({name: array[0] for name, array in zip(names, state)})
    day = re.findall(r"--(negative|neutral|positive): (#\w{6})", html._part("page.css"))[:3]
    ends = {name: np.array([int(c[i : i + 2], 16) for i in (1, 3, 5)]) for name, c in day}
    for kind, layer, unit in [(0, 1, 3), (1, 0, 10)]:
        page.set("kind", kind, "change")
        page.set("layer", layer, "change")
        page.set("unit", unit)
        wanted = np.array([v[f"l{layer}_{'hc'[kind]}"][unit - 1] for v in values])
        found, limit, spans = page.run(
            "return [text.map((c) => colouring.value(c)), colouring.limit,"
            "text.map((c) => c.span.style.backgroundColor)]"
        )
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
        assert limit == 1 if kind == 0 else np.abs(wanted).max() <= limit
        for value, colour in zip(wanted, spans):
            end = ends["negative" if value < 0 else "positive"]
            mixed = ends["neutral"] + abs(value) / limit * (end - ends["neutral"])
            np.testing.assert_allclose(list(map(int, re.findall(r"\d+", colour))), mixed, atol=1.5)
    page.run("look(4)")
    reading = page.run("return document.getElementById('reading').textContent")
    value = wanted[4]
    sign = "−" if value < 0 else "+"
    words = f"memory cell {sign}{abs(value):.3f} in unit 10 of layer 1."
    assert reading == f"“{text[4]}”, 5 of 43: {words}"


def test_a_beginning_is_cleaned_and_unknown_characters_are_refused(browse):
    page = browse(exported())
    note = "return document.getElementById('beginning-note').textContent"
    page.set("beginning", "A \n B")
    assert page.run(note) == "Read as “a b”, cleaned like the model's text."
    assert page.write("ab#Ü", 5) == ""
    assert page.status == "The model has never seen “#”, “ü”."
    assert page.run("return document.activeElement.id") == "beginning"
    assert page.write("", 5)[0] == " "  # as `generate` without a prefix
    page = browse(exported(lower=False, fold_whitespace=False, vocab=d2l.Vocab("aAb \n")))
    assert page.write("Aa  \n", 5)[:5] == "Aa  \n"
    assert page.write("", 5)[0] == "\n"


@pytest.mark.parametrize(
    "text", ["Ab  c", " Two\t\x85words\u2003and\ufeff", "ΟΔΟΣ ΣΑΣ", "İstanbul", "x\x1cy\xa0z"]
)
def test_a_beginning_is_cleaned_as_a_text_is(browse, text):
    page = browse(exported())
    ours = page.run("return cleaned(arguments[0], {lower: true, fold_whitespace: true})", text)
    assert ours.strip(" ") == clean_text(text)


def test_stopped(browse):
    page = browse(exported())
    page.set("beginning", "abc")
    page.set("length", 100000)
    page.set("pace", 8)
    page.click("#start")
    page.run("document.dispatchEvent(new KeyboardEvent('keydown', {key: 'Escape'}))")
    page.wait()
    assert re.match(r"Stopped (after \d+ characters?|while reading the beginning)", page.status)
    assert len(page.text) < 1000


def test_it_writes_when_it_is_opened_and_write_starts_again(browse, driver):
    emulate = "Emulation.setEmulatedMedia"
    motion = {"name": "prefers-reduced-motion", "value": "no-preference"}
    driver.execute_cdp_cmd(emulate, {"features": [motion]})
    try:
        page = browse(exported(scale=4), beginning="abc")
        page.wait_for(lambda: len(page.text) > 5 and page.text.startswith("abc"))
        # The bars are as wide as the numbers beside them say, also while it writes.
        widths = (
            "return [...document.querySelectorAll('#bars button')].map((e) => [e.ariaLabel,"
            "e.querySelector('.fill').offsetWidth / e.querySelector('.track').offsetWidth])"
        )
        for _ in range(10):
            for label, width in page.run(widths):
                shown = float(re.findall(r"[\d.]+(?= %)", label)[0])
                assert abs(shown - 100 * width) < 1.5, label
        assert page.run("return running !== null")
        assert page.write("dab", 5).startswith("dab") and len(page.text) == 8
        # A character that the model does not know is refused when Write is chosen, not before.
        page = browse(exported(), beginning="#")
        assert page.status == page.text == "" and page.run("return running") is None
    finally:
        driver.execute_cdp_cmd(emulate, {"features": []})
    page = browse(exported(), beginning="abc")
    assert page.run("return matchMedia('(prefers-reduced-motion: reduce)').matches")
    assert page.text == "" and page.run("return running") is None


def test_on_a_phone_write_brings_the_text_into_view(browse, driver):
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        page = browse(exported())
        page.run("element('beginning').scrollIntoView({block: 'start'})")
        box = "const box = element('text').getBoundingClientRect(); return [box.top, box.bottom]"
        assert page.run(box)[0] < 0
        page.write("abc", 10)
        top, bottom = page.run(box)
        assert 0 <= top < bottom <= page.run("return innerHeight")
        assert page.run("return document.documentElement.scrollWidth") == 390
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_in_a_frame_the_text_and_its_buttons_fill_the_height(browse, driver):
    page = browse(exported())
    shown = "return document.getElementById(arguments[0]).offsetHeight > 0"
    names = "text", "start", "follow", "beginning", "bars", "position"
    page.write("abc", 300)
    assert all(page.run(shown, name) for name in names) and page.complaints() == []
    page.url += "?embedded"
    try:
        for width in 350, 740:  # of the site's first page on a phone and elsewhere
            size = {"width": width, "height": 864, "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            driver.get(page.url)
            page.write("abc", 300)
            assert [name for name in names if page.run(shown, name)] == list(names[:3])
            assert page.run("return document.documentElement.scrollHeight") == 864
            assert page.run("return element('text').offsetHeight") > 200
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


PLAY = "\nANNA:\nO, so “Be it”\nto do.\n\nB:\nHe ran; she: ran\n\nEve"
FEATURES = {
    "the position in the line": lambda i: i - PLAY.rfind("\n", 0, i + 1),
    "the name of the speaker": lambda i: 1 <= i <= 5 or PLAY.find("B:") <= i <= PLAY.find("B:") + 1,
    "spaces": lambda i: PLAY[i] == " ",
    "vowels": lambda i: PLAY[i] in "AOoeiEa",
    "capitals": lambda i: PLAY[i] in "ANOBHE",
    "what is in quotes": lambda i: PLAY.find("“") <= i < PLAY.find("”"),
}


@pytest.mark.parametrize("layer", ["lstm", "gru", "mixed cells"])
def test_the_unit_that_follows_a_feature_is_found(browse, layer):
    vocab = d2l.Vocab(sorted(set(PLAY)))
    export = exported(layer, vocab, lower=False, fold_whitespace=False, scale=0.9)
    page = browse(export, float32=True)
    chosen = "return [...element('follow').options].map((option) => option.value)"
    assert page.run(chosen) == ["", *FEATURES]
    add = "for (const c of arguments[0]) add(indices.get(c), true); show()"
    note = "return element('follow-note').textContent"
    page.run(add, PLAY)
    page.set("follow", "spaces", "change")
    assert page.run(note) == "The page looks for this unit when the text has 100 characters."
    assert page.run("return colouring.kind") == -1
    page.run(add, "B" * 46)
    assert page.run(note).startswith("The page looks") and len(page.text) == 99
    page.run(add, "B")
    assert page.run(note).startswith(("Unit ", "None"))
    page.run(add, "B" * 3)
    state, states = [np.zeros((1, n), "float32") for n in export.network.states.values()], []
    for index in vocab[list(PLAY) + ["B"] * 50]:
        _, state = export.network.forward(np.array([[index]]), state)
        states.append(np.concatenate(state, axis=1)[0])
    units = [
        (number, kind, unit)
        for number, part in enumerate(export.network.layers)
        for kind in range(1 + (part.mode == "lstm"))
        for unit in range(part.num_hiddens)
    ]
    at_the_end = {"capitals": [1.0] * 50, "the position in the line": 4 + np.arange(50)}
    for name, feature in FEATURES.items():
        values = [float(feature(i)) for i in range(len(PLAY))]
        values += list(at_the_end.get(name, [0.0] * 50))
        r = [np.corrcoef(unit, values)[0, 1] for unit in np.array(states).T]
        best = int(np.argmax(np.abs(r)))
        number, kind, unit = units[best]
        page.set("follow", name, "change")
        sign = "−" if r[best] < 0 else "+"
        assert page.run(note) == (
            f"Unit {unit + 1} of layer {number + 1} follows it best. Their correlation over the "
            f"text is r = {sign}{abs(r[best]):.2f}: 0 would be not at all, +1 exactly, and −1 "
            "exactly but the other way round."
        )
        assert page.run("return [colouring.kind, colouring.unit]") == [kind, unit]
        assert page.run("return colouring.layer.begin") == units.index((number, 0, 0))
    # A unit chosen by hand follows nothing in particular.
    page.set("unit", 2)
    assert page.run("return element('follow').value + element('follow-note').textContent") == ""


def test_a_feature_that_is_nowhere_in_the_text_is_followed_by_no_unit(browse):
    page = browse(exported(vocab=d2l.Vocab("ab :")))  # names of speakers need lines, too
    chosen = "return [...element('follow').options].map((option) => option.value)"
    assert page.run(chosen) == ["", "spaces", "vowels"]
    page.run("for (let i = 0; i < 100; i++) add(indices.get('b'), true); show()")
    page.set("follow", "spaces", "change")
    words = page.run("return element('follow-note').textContent")
    assert words == "None: this is the same everywhere in the text."


def test_invisible_characters_and_those_that_turn_text_around_are_shown(browse):
    vocab = d2l.Vocab("ab\u202e\u200b\x07\n\u200d")
    page = browse(exported(vocab=vocab, fold_whitespace=False))
    page.run(
        "for (const c of arguments[0]) add(indices.get(c), true); show()", "a\u202eb\x07\n\u200d"
    )
    assert page.text == "a⟨U+202E⟩b⟨U+0007⟩\n\u200d"
    labels = page.run(
        "return [...document.querySelectorAll('#bars button')].map((e) => e.ariaLabel)"
    )
    names = sorted(label.partition(", ")[0] for label in labels)
    assert names == sorted(["a", "b", "⟨U+202E⟩", "⟨U+200B⟩", "⟨U+0007⟩", "line break", "⟨U+200D⟩"])


def test_scores_that_are_not_finite_are_reported(browse):
    export = exported("rnn_relu", scale=8)
    page = browse(export)
    page.write("abc", 1000)
    assert page.status == "The model's scores are not finite: its training diverged."


def test_it_works_with_a_keyboard_and_a_screen_reader(browse):
    page = browse(exported())
    nameless = page.run(
        "return [...document.querySelectorAll('input, select, textarea, button')]"
        ".filter((e) => !(e.labels?.length || e.ariaLabel || e.textContent.trim()))"
        ".map((e) => e.id)"
    )
    assert nameless == []
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    page.set("pace", 0)
    page.set("length", 20)
    # A screen reader announces the beginning and the end, not each character.
    page.run(
        "window.said = []; new MutationObserver(() => said.push(element('status').textContent))"
        ".observe(element('status'), {childList: true})"
    )
    page.set("follow", "", "change")
    page.driver.find_element(By.ID, "beginning").send_keys("abc", Keys.CONTROL, Keys.ENTER)
    page.wait()
    assert len(page.text) == 23
    assert page.run("return said") == ["Writing …", page.status]
    live = "return [...document.querySelectorAll('[aria-live], [role], output')].map((e) => e.role)"
    assert sorted(page.run(live)) == ["region", "status"]
    page.driver.find_element(By.ID, "position").send_keys(Keys.HOME, Keys.ARROW_RIGHT)
    assert page.run("return lookedAt") == 1
    words = page.run("return element('position').getAttribute('aria-valuetext')")
    assert words.startswith("“b”, 2 of 23: hidden state ")
