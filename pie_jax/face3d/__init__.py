"""The face in three dimensions: rigid geometry, the morphable model, the rasterizer and the renderer."""
