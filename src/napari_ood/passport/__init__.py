"""Whether a slide fits a bundle: scale, scanner, stain, focus, artefacts, in words."""
