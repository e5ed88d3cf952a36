"""The samplers of OpenTelemetry's SDK that are so plain that kobs decides itself."""

from typing import Any

from opentelemetry.sdk.trace import sampling as sdk

from kobs.bridge import RootSampler

_ALL = 1 << 64


def plain_sampler(sampler: sdk.Sampler) -> RootSampler | None:
    """The same decisions without a call; None for a sampler that has to be asked."""
    if isinstance(sampler, sdk.ParentBased):
        if type(sampler).should_sample is not sdk.ParentBased.should_sample:
            return None
        decisions = [_static(getattr(sampler, name, None)) for name in _DELEGATES]
        bound = _bound(getattr(sampler, "_root", None))
        if bound is None or decisions != [True, False, True, False]:
            return None
        return RootSampler(bound, parent_based=True)
    bound = _bound(sampler)
    return None if bound is None else RootSampler(bound, parent_based=False)


_DELEGATES = (
    "_remote_parent_sampled",
    "_remote_parent_not_sampled",
    "_local_parent_sampled",
    "_local_parent_not_sampled",
)


def _bound(sampler: Any) -> int | None:
    static = _static(sampler)
    if static is not None:
        return _ALL if static else 0
    if type(sampler) is sdk.TraceIdRatioBased:
        return sampler.bound
    return None


def _static(sampler: Any) -> bool | None:
    """What a sampler always decides; None for one that looks."""
    if not isinstance(sampler, sdk.StaticSampler):
        return None
    if type(sampler).should_sample is not sdk.StaticSampler.should_sample:
        return None
    decision = sampler._decision
    if decision is sdk.Decision.RECORD_ONLY:
        return None
    return decision is sdk.Decision.RECORD_AND_SAMPLE
