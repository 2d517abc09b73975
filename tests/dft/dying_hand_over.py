"""A hand-over to VASP that kills itself, as `kill -9` would; in a process of its own.

    python -m tests.dft.dying_hand_over FOLDER CALL

dies when the files of folder number CALL are written and the folder has not its name yet.
"""

import sys
from pathlib import Path

from mlip.dft import VaspRecipe, hand_over, vasp_folders
from tests.dft.crystals import proposals
from tests.dying import die_at_call

if __name__ == "__main__":
    folder, call = sys.argv[1:]
    die_at_call(vasp_folders, "_write_files", int(call))
    hand_over(VaspRecipe(kind="vasp"), proposals(), Path(folder), progress=False)
