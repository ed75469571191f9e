"""The one version number of the suite; setup.cfg and every tool's --version read it here."""

VERSION = "1.0.0"
