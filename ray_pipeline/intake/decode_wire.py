"""What parent and child say to each other over a socket. Fixed layout and JSON; nothing that can carry code.

    request  4s  b"task" | ? page given | q page (0-based) | Q file bytes      + two descriptors: file, pixels
    reply    4s  b"done" | I width | I height | I text bytes                   + the text: JSON [status, message], or none

The pixels are (height, width, 3) uint8 at the start of the pixel memory, which the parent has sized for the largest picture.
"""

import struct

TASK = struct.Struct(">4s?qQ")
REPLY = struct.Struct(">4sIII")
TASK_MARK = b"task"
REPLY_MARK = b"done"
READY_MARK = b"here"
LONGEST_TEXT_BYTES = 4096
