"""Backbones, one network a file: modules with the `pyramid` rule, whose outputs ``Feature`` picks. Importing registers them."""

from models.backbones import botnet, catnet, cotnet, hornet, mobilenet, pretrained, resnet

__all__ = ["botnet", "catnet", "cotnet", "hornet", "mobilenet", "pretrained", "resnet"]
