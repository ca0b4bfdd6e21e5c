"""What SkyCaptioner is asked.

The text is part of the weights' interface: SkyCaptioner-V1 was trained with it. It is the released
instruction word for word (SkyReels-V2, skycaptioner_v1/scripts/vllm_struct_caption.py), which goes
into the user turn after the video. The prompts of the fusion are in `captioner.fusion_prompts`.
"""

from __future__ import annotations

import json

_SUBJECT = "Only for human/animal categories, empty otherwise"

_ANSWER = {
    "subjects": [
        {
            "appearance": "Main subject appearance description",
            "action": "Main subject action",
            "expression": f"Main subject expression  ({_SUBJECT})",
            "position": "Subject position in the video "
            "(Can be relative position to other objects or spatial description)",
            "TYPES": {
                "type": "Main category (e.g., Human)",
                "sub_type": "Sub-category (e.g., Man)",
            },
            "is_main_subject": True,
        },
        {
            "appearance": "Non-main subject appearance description",
            "action": "Non-main subject action",
            "expression": f"Non-main subject expression ({_SUBJECT})",
            "position": "Position of non-main subject 1",
            "TYPES": {
                "type": "Main category (e.g., Vehicles)",
                "sub_type": "Sub-category (e.g., Ship)",
            },
            "is_main_subject": False,
        },
    ],
    "shot_type": "Shot type"
    "(Options: long_shot/full_shot/medium_shot/close_up/extreme_close_up/other)",
    "shot_angle": "Camera angle(Options: eye_level/high_angle/low_angle/other)",
    "shot_position": "Camera position(Options: front_view/back_view/side_view/over_the_shoulder/"
    "overhead_view/point_of_view/aerial_view/overlooking_view/other)",
    "camera_motion": "Camera movement description",
    "environment": "Video background/environment description",
    "lighting": "Lighting information in the video",
}
"""What stands in the instruction as the example of an answer; its order and its double blank too
are the released ones."""

STRUCTURED = (
    "I need you to generate a structured and detailed caption for the provided video. The "
    "structured output and the requirements for each field are as shown in the following JSON "
    f"content: {json.dumps(_ANSWER)}"
)
"""The released instruction; the sha256 of its UTF-8 is
dcbe6500a8aa00da27b0a2581d12ae8a9a54898237064965c5804152d9973fc2."""
