"""What a synthetic world is written as: the layouts of nuScenes, KITTI and COCO."""
