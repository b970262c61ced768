"""Versions in processes of their own: one that crashes, hangs or leaks takes down only itself."""
