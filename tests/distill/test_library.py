"""The library page of the docs, run word for word."""

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / 'docs' / 'library.md'


class Detector(nn.Module):
    """A detector that knows nothing of this project: (B, 3, S, S) images, one score per cell."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(3, channels, 3, stride, padding=1)
        self.neck = nn.Conv2d(channels, channels, 1)
        self.head = nn.Conv2d(channels, 1, 1)

    def forward(self, images: Tensor, targets: Tensor) -> dict[str, Tensor] | Tensor:
        scores = self.head(self.neck(self.backbone(images).relu()))
        if not self.training:
            return scores
        return {'loss_score': (scores.mean((1, 2, 3)) - targets).square().mean()}


def test_the_page_distils_two_modules_and_saves_the_student(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    code = re.search(r'```python\n(.*?)```', PAGE.read_text(), re.DOTALL)[1]
    assert code in (ROOT / 'README.md').read_text()
    assert len(code.strip().splitlines()) <= 13
    small, big = Detector(4, 4), Detector(8, 2)
    before = small.backbone.weight.clone()
    names = dict(small=small, big=big, batch=dict(images=torch.randn(2, 3, 16, 16), targets=torch.ones(2)))
    exec(code, names)
    assert set(names['distiller'](**names['batch'])) == {'loss_score', 'loss_kd_feature_l2'}
    assert not torch.equal(small.backbone.weight, before)
    saved = torch.load('student.pth', weights_only=True)
    fresh = Detector(4, 4)
    fresh.load_state_dict(saved, strict=True)
    assert not any(p.requires_grad for p in big.parameters())
    assert not any(name.startswith('teacher') for name in names['distiller'].state_dict())
