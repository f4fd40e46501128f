"""What parent and child say to each other over a socket. Fixed layout and JSON; nothing that can carry code.

    request  4s  b"open", b"page" or b"huge" | Q document | q page (0-based) | Q file bytes
             + two descriptors: file, pixels (open: the file alone)
    reply    4s  b"done" | I width | I height | I pages | I text bytes              + the text: JSON [status, message], or none

A child keeps the document that it has opened last, if it has several pages or was only opened so far; another number, or 0,
is another file. The pixels are (height, width, 3) uint8 at the start of the pixel memory, which the parent has sized for the
largest picture. A page of more than `fetch.max_pixels` is not written there, but is told its size: asked again as huge, with
pixel memory of just that size, it is read in bands.
"""

import struct

TASK = struct.Struct(">4sQqQ")
REPLY = struct.Struct(">4sIIII")
OPEN_MARK = b"open"
PAGE_MARK = b"page"
HUGE_MARK = b"huge"
REPLY_MARK = b"done"
READY_MARK = b"here"
ALONE = 0  # the number of a file of which nothing more will be asked
LONGEST_TEXT_BYTES = 4096
