"""Programs that are measured whole, as they are and watched. They know nothing of who watches."""
