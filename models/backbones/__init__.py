"""Backbones, one network per file: modules with the `pyramid` rule, whose outputs ``Feature`` selects. Importing registers them."""

from models.backbones import botnet, catnet, cotnet, cotnetd, hornet, mobilenet, pretrained, resnet

__all__ = ["botnet", "catnet", "cotnet", "cotnetd", "hornet", "mobilenet", "pretrained", "resnet"]
