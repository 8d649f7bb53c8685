"""The report: one static folder that opens from disk, without a network."""

from neurarium.lab.site.build import build_site as build_site
from neurarium.lab.site.content import ArmRow as ArmRow
from neurarium.lab.site.content import ClaimRow as ClaimRow
from neurarium.lab.site.content import PaperPage as PaperPage
