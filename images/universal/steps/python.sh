. /run/recipe/lib.sh
# A container has one Python for everybody: `pip install` works as people know it.
rm -f /usr/lib/python3*/EXTERNALLY-MANAGED
python_program poetry poetry
pip3 install --quiet --no-cache-dir --disable-pip-version-check \
    uv black mypy pytest ruff \
    numpy pandas scipy matplotlib scikit-learn \
    requests httpx pyyaml ipython
python3 -c 'import numpy, pandas, scipy, matplotlib, sklearn'
