import base64
import io
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from data.caption_backends import (
    EndpointCaptioner,
    TrainedCaptioner,
    TransformersCaptioner,
    load_backend,
    parse_answer,
    pick_frames,
)
from data.config import (
    BackendConfig,
    EndpointCaptionerConfig,
    TrainedCaptionerConfig,
    TransformersCaptionerConfig,
)
from data.video import read_frames, write_mp4
from model.captioner import FIELD_MARKS, CaptionText, VideoCaptioner
from model.errors import CheckpointError, StageError

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220)}
SPECIAL = ["<pad>", "<bos>", "<eos>", "<unk>", "<image>", *FIELD_MARKS.values()]


@pytest.fixture
def clips(tmp_path):
    """One clip per colour, named for it."""
    for name, colour in COLOURS.items():
        write_mp4(tmp_path / f"{name}.mp4", np.broadcast_to(np.uint8(colour), (8, 16, 32, 3)).copy(), 8)
    return [tmp_path / f"{name}.mp4" for name in COLOURS]


def make_tokenizer():
    words = [*SPECIAL, *COLOURS, *["a", "ball", "rolls", "on", "the", "table", "left", "right", "slowly"]]
    inner = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        additional_special_tokens=SPECIAL[4:],
    )


@pytest.fixture
def tiny_model(tmp_path):
    """A LLaVA of some kilobytes with random weights, saved as a user would have it on disk."""
    torch.manual_seed(3)  # a seed whose model says something about every clip
    tokenizer = make_tokenizer()
    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=16,
        patch_size=8,
        projection_dim=8,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=4,
        vision_feature_select_strategy="default",
        vision_feature_layer=-1,
    )
    images = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    processor = LlavaProcessor(
        images, tokenizer, patch_size=8, vision_feature_select_strategy="default", num_additional_image_tokens=1
    )
    LlavaForConditionalGeneration(config).save_pretrained(tmp_path / "llava")
    processor.save_pretrained(tmp_path / "llava")
    return tmp_path / "llava"


def transformers_config(folder, **changes):
    return TransformersCaptionerConfig(
        model=str(folder), num_frames=2, max_new_tokens=6, instruction="the ball", **changes
    )


def test_a_transformers_model_captions_each_clip_as_it_would_alone(tiny_model, clips):
    backend = TransformersCaptioner(transformers_config(tiny_model))
    together = backend.caption(clips)
    assert together == [backend.caption([clip])[0] for clip in clips]
    assert backend.caption(clips[::-1]) == together[::-1]
    assert len({text.dense for text in together}) > 1
    assert all(text.dense for text in together)


def test_the_digest_of_a_transformers_model_follows_weights_and_question(tiny_model, clips):
    first = TransformersCaptioner(transformers_config(tiny_model)).digest
    assert TransformersCaptioner(transformers_config(tiny_model)).digest == first
    other = transformers_config(tiny_model).model_copy(update={"instruction": "the table"})
    assert TransformersCaptioner(other).digest != first
    network = LlavaForConditionalGeneration.from_pretrained(tiny_model)
    with torch.no_grad():
        next(network.parameters()).add_(1)
    network.save_pretrained(tiny_model)
    assert TransformersCaptioner(transformers_config(tiny_model)).digest != first


def test_a_trained_captioner_captions_each_clip_with_its_own_text(tmp_path, clips):
    captioner = make_captioner()
    alone = [captioner.caption([read_frames(clip)])[0] for clip in clips]
    assert len(set(map(str, alone))) == len(clips)
    captioner.save(tmp_path / "captioner")
    backend = TrainedCaptioner(tmp_path / "captioner")
    assert backend.caption(clips) == alone
    assert backend.caption(clips[::-1]) == alone[::-1]


def make_captioner():
    """Random weights, large enough that what it writes depends on what it sees."""
    torch.manual_seed(6)
    captioner = VideoCaptioner(make_tokenizer(), dim=16, num_layers=1).eval()
    with torch.no_grad():
        for weights in captioner.parameters():
            if weights.dim() == 2:
                weights.normal_(0, 8 / weights.shape[-1] ** 0.5)
            elif weights.dim() > 2:
                weights.normal_(0, 0.8)
    return captioner


def test_a_missing_captioner_says_so(tmp_path, workspace):
    with pytest.raises(CheckpointError, match="captioner"):
        load_backend(TrainedCaptionerConfig(), workspace)


class Endpoint(ThreadingHTTPServer):
    """A chat endpoint that names the colour it sees; `script` holds replies to give first, as (status, text)."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests = []
        self.script = []
        self.lock = threading.Lock()

    @property
    def base_url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests.append((self.path, self.headers["Authorization"], body))
            status, text = self.server.script.pop(0) if self.server.script else (200, None)
        name = see_colour(body)
        if text is None:
            text = (
                f'Here you are: {{"short": "{name}", "dense": "a {name}  ball", "structured": {{"subject": "{name}"}}}}'
            )
        time.sleep({"red": 0.1, "green": 0.05, "blue": 0}[name])  # answers come back in another order
        self.reply(status, text, body)

    def reply(self, status, text, body):
        message = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        answer = {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"], "choices": [message]}
        data = json.dumps(answer if status == 200 else {"error": {"message": text}}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def see_colour(body):
    url = next(part["image_url"]["url"] for part in body["messages"][0]["content"] if part["type"] == "image_url")
    head, data = url.split(",", 1)
    assert head == "data:image/jpeg;base64"
    pixel = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))[0, 0]
    return list(COLOURS)[int(pixel.argmax())]


@pytest.fixture
def endpoint():
    server = Endpoint()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def endpoint_config(endpoint, **changes):
    return EndpointCaptionerConfig(base_url=endpoint.base_url, model="seer", num_frames=3, **changes)


def test_an_endpoint_captions_each_clip_with_its_own_text(endpoint, clips, monkeypatch):
    monkeypatch.setenv("SEER_KEY", "secret")
    backend = EndpointCaptioner(endpoint_config(endpoint, api_key_variable="SEER_KEY"))
    texts = backend.caption(clips)
    assert texts == [CaptionText(name, f"a {name} ball", {"subject": name}) for name in COLOURS]
    path, authorization, body = endpoint.requests[0]
    assert (path, authorization) == ("/v1/chat/completions", "Bearer secret")
    assert (body["model"], body["temperature"]) == ("seer", 0)
    assert [part["type"] for part in body["messages"][0]["content"]] == ["image_url"] * 3 + ["text"]


def test_the_digest_of_an_endpoint_is_its_model_not_its_address(endpoint):
    first = EndpointCaptioner(endpoint_config(endpoint))
    elsewhere = EndpointCaptioner(endpoint_config(endpoint).model_copy(update={"base_url": "http://127.0.0.1:9/v1"}))
    assert elsewhere.digest == first.digest
    assert EndpointCaptioner(endpoint_config(endpoint, revision="2")).digest != first.digest


def test_an_endpoint_that_stumbles_is_asked_again(endpoint, clips):
    endpoint.script = [(503, "busy")]
    (text,) = EndpointCaptioner(endpoint_config(endpoint)).caption(clips[:1])
    assert text.short == "red"
    assert len(endpoint.requests) == 2


def test_a_clip_that_an_endpoint_refuses_fails_alone(endpoint, clips):
    endpoint.script = [(400, "too many pixels")]
    texts = EndpointCaptioner(endpoint_config(endpoint, num_connections=1)).caption(clips)
    assert [text.dense for text in texts] == ["", "a green ball", "a blue ball"]


@pytest.mark.parametrize("status", [401, 404])
def test_an_endpoint_that_refuses_us_stops_the_run(endpoint, clips, status):
    endpoint.script = [(status, "no")] * 9
    with pytest.raises(StageError, match="check the address, the model name and the key"):
        EndpointCaptioner(endpoint_config(endpoint)).caption(clips)


def test_an_endpoint_out_of_reach_stops_the_run(clips):
    config = EndpointCaptionerConfig(base_url="http://127.0.0.1:9/v1", model="seer", max_retries=0)
    with pytest.raises(StageError, match=r"127\.0\.0\.1:9/v1 fails for model 'seer'"):
        EndpointCaptioner(config).caption(clips[:1])


@pytest.mark.parametrize(
    ("answer", "short", "dense"),
    [
        ('```json\n{"short": "s", "dense": "d  e"}\n```', "s", "d e"),
        ('{"short": "only short"}', "only short", "only short"),
        ('{"dense": "A ball. It rolls."}', "A ball", "A ball. It rolls."),
        ("A ball rolls. It stops.\n", "A ball rolls", "A ball rolls. It stops."),
        ('{"short": "cut", "dense": "a ball ro', "", ""),
        ('{"short": 3, "dense": null}', "", ""),
        ("[1]", "[1]", "[1]"),
        ("", "", ""),
    ],
)
def test_answers_become_captions(answer, short, dense):
    assert parse_answer(answer) == CaptionText(short, dense, {})


def test_structure_keeps_known_fields_with_words():
    answer = '{"dense": "d", "structured": {"subject": "cube", "camera": "", "price": "3", "text": 7}}'
    assert parse_answer(answer).structured == {"subject": "cube"}


def test_frames_are_picked_evenly():
    frames = np.broadcast_to(np.arange(16, dtype=np.uint8)[:, None, None, None], (16, 2, 2, 3))
    assert [np.asarray(image)[0, 0, 0] for image in pick_frames(frames, 4)] == [2, 6, 10, 14]
    assert len(pick_frames(frames[:2], 4)) == 2


def test_the_kind_chooses_the_backend():
    adapter = TypeAdapter(BackendConfig)
    assert adapter.validate_python({"kind": "captioner"}) == TrainedCaptionerConfig()
    assert isinstance(adapter.validate_python({"kind": "transformers", "model": "m"}), TransformersCaptionerConfig)
    with pytest.raises(ValidationError, match="Extra inputs"):
        adapter.validate_python({"kind": "captioner", "model": "m"})
    with pytest.raises(ValidationError, match="does not match any of the expected tags"):
        adapter.validate_python({"kind": "oracle"})
