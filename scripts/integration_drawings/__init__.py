"""Parts of scripts/draw_integrations."""
