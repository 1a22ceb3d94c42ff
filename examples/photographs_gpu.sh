#!/bin/sh
# A generator of photographs at 128 px on one accelerator, in bfloat16, in about 20 minutes; the same command goes on.
#
#   python -m pie_jax.training.photographs --photos FOLDER --resolution 160 --jpeg 90 -o FRAMED    (before, on any CPU)
#   sh examples/photographs_gpu.sh FRAMED OUT
#
# FRAMED is all that has to be carried there: some 10 kB a picture. OUT gets the pack, checkpoints, sheets of samples
# and page. DECODED and ADVERSARIAL are minutes, BATCH images a step, JUDGES a pack with a face_descriptor.
set -e
FRAMED=${1:?give the folder of pie_jax.training.photographs}
OUT=${2:?give a folder for pack, checkpoints and page}
train="python -m pie_jax.training.generator --pack $OUT/pack --start demo --photos $FRAMED --resolution ${RESOLUTION:-128}"
train="$train --batch ${BATCH:-32} --judges ${JUDGES:-demo} --evaluate-minutes ${EVALUATE:-3}"
mkdir -p "$OUT"
$train --stage decoded --run "$OUT/decoded" --minutes "${DECODED:-4}"
$train --stage adversarial --run "$OUT/adversarial" --minutes "${ADVERSARIAL:-16}" --precision bfloat16 \
  --learning-rate 0.002
python -m pie_jax.training.photograph_page --pack "$OUT/pack" --photos "$FRAMED" --judges "${JUDGES:-demo}" -o "$OUT/page"
