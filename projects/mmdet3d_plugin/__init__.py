"""FocalDistiller: knowledge distillation for 3D object detection in bird's-eye view (BEV)."""
