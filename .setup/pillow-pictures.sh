# Fetches Pillow's own test pictures into .venv/pillow-pictures/, or does nothing when they are there: 800 files of every
# format, odd and broken ones, 60 MB. They come from the sources of the release in pillow-pictures.txt.
# usage: sh .setup/pillow-pictures.sh      from the repository's root, after the workers' environment is made
#
# Without network, the tests that need them are skipped; with STOKER_REQUIRE_PICTURES=1, that is an error.
set -eu

pins=.setup/pillow-pictures.txt
pictures=.venv/pillow-pictures
log=.venv/pillow-pictures.log
new=.venv/pillow-pictures.new
python=.venv/workers/bin/python

! cmp -s $pins $pictures/.installed || exit 0
echo "stoker: fetching Pillow's test pictures into $pictures ..." >&2
rm -rf $pictures $new
mkdir -p $new/sources
# pip also asks Pillow's build for its name and version, with the tools that this needs, and compiles nothing
if "$python" -I -m pip --disable-pip-version-check --timeout 20 --retries 1 download --no-deps --no-binary pillow \
    --require-hashes -r $pins -d $new/sources >$log 2>&1 </dev/null &&
    tar -xzf $new/sources/*.tar.gz -C $new --strip-components 1 --wildcards '*/Tests/images' >>$log 2>&1; then
    cp $pins $new/Tests/images/.installed
    mv $new/Tests/images $pictures
    rm -rf $new
    exit 0
fi
rm -rf $new
echo "stoker: they cannot be fetched ($(grep -i error $log | tail -n 1)): the tests that need them are skipped" >&2
[ "${STOKER_REQUIRE_PICTURES:-}" != 1 ] || exit 1
