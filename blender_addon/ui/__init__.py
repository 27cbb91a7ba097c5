"""What a person sees: properties, operators, panels, preferences."""

import bpy

from ..core.i18n import CONTEXT, use_translator
from . import (
    assets,
    backend,
    capture,
    capture_preview,
    diagnostics,
    history,
    images,
    jobs,
    main,
    menus,
    placement,
    preferences,
    previews,
    properties,
    redraw,
    remedies,
    result,
    rig,
    rig_overlay,
    setup,
    surface,
    uninstall,
    weights,
    weights_operators,
)

# In the order of the panels; what a panel hangs under comes before it.
MODULES = (
    preferences,
    properties,
    previews,
    images,
    main,
    jobs,
    assets,
    result,
    rig,
    rig_overlay,
    capture_preview,
    capture,
    placement,
    history,
    uninstall,
    backend,
    weights,
    weights_operators,
    setup,
    diagnostics,
    remedies,
    surface,
    menus,
    redraw,
)


def register() -> None:
    use_translator(lambda text: bpy.app.translations.pgettext_iface(text, CONTEXT))
    for module in MODULES:
        module.register()


def unregister() -> None:
    for module in reversed(MODULES):
        module.unregister()
    use_translator(None)
