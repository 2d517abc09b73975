#!/bin/sh
# The default potential, from structures to weights. Every stage goes on where it was stopped.
#
#     DATA=.../data OUT=runs/default datasets/default/make.sh
#
# DATA      folder of the data pack (README.md beside this script names its files)
# TEACHER   name or file of the potential that labels (nequix-oam-1)
# SCALE     factor on the numbers of built structures (1: 100,000 frames in all)
# EPOCHS    of the training
set -eu
: "${DATA:?the folder of the data pack}" "${OUT:=runs/default}" "${TEACHER:=nequix-oam-1}" "${SCALE:=1}" "${EPOCHS:=11}"
here=$(dirname "$0")
mkdir -p "$OUT"

if [ ! -e "$OUT/structures.txt" ]; then
    for part in broad compounds; do
        python "$here/make_structures.py" "$DATA" "$OUT/structures" "$part" --teacher "$TEACHER" --scale "$SCALE"
    done >"$OUT/structures.part"
    mv "$OUT/structures.part" "$OUT/structures.txt"
fi
cat "$OUT/structures.txt"
python "$here/label.py" "$TEACHER" "$OUT/structures" "$OUT/labeled"
resume=""
[ -e "$OUT/student/recipe.yaml" ] && resume=--resume
mlip train "$here/student.yaml" data.store="$OUT/labeled" out="$OUT/student" train.epochs="$EPOCHS" $resume
mlip benchmark dimers "$OUT/student/potential.safetensors"
