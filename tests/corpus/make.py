#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the files of tests/corpus whose verdict is known, from what is said here of each format.

y_NAME must be taken, n_NAME refused with a message that names the file and the place, i_NAME may
be either (nothing may crash).  i_found_* are not made here: the fuzzer found them.
    tests/corpus/make.py            write them (xxhash's library gives the checksums)
    tests/corpus/make.py --check    exit 1 if a file here is not what it would write
"""
import ctypes
import ctypes.util
import gzip
import os
import struct
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
FILES = {}


def put(folder, name, data):
    assert name[:2] in ("y_", "n_", "i_") and (folder, name) not in FILES
    FILES[folder, name] = data.encode() if isinstance(data, str) else data


def hash_hex(data):
    class Hash(ctypes.Structure):
        _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]
    lib = ctypes.CDLL(ctypes.util.find_library("xxhash"))
    lib.XXH3_128bits.restype = Hash
    lib.XXH3_128bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    h = lib.XXH3_128bits(data, len(data))
    return b"%016x%016x" % (h.high, h.low)


def packed(data):
    return gzip.compress(data, 9, mtime=0)


# ---- JSON: RFC 8259, and what two readers could understand in two ways is refused ----

def json_files():
    good = {
        "null": "null", "true": "true", "false": "false", "zero": "0", "minus_zero": "-0",
        "int": "123", "minus": "-1", "fraction": "0.5", "exponent": "1e5", "exponent_plus": "1E+2",
        "exponent_minus": "1.25e-3", "exponent_zero": "0e0", "int_2_53": "9007199254740992",
        "minus_2_53": "-9007199254740992", "huge_double": "1e308", "tiny_double": "1e-400",
        "many_digits": "0.1000000000000000055511151231257827021181583404541015625",
        "string": '"abc"', "string_empty": '""', "escapes": r'"\"\\\/\b\f\n\r\t"',
        "escape_u": r'"\u0041\u00e9\uFFFF"', "escape_pair": r'"\ud83d\ude00"',
        "utf8": '"\u00e9\u20ac\U0001f600"', "del": '"\x7f"', "noncharacter": '"\uffff"',
        "u2028": '"\u2028"', "array_empty": "[]", "array": "[1,\"a\",null,true,[],{}]",
        "array_spaces": "[ 1 , 2 ]", "object_empty": "{}", "object": '{"a":1,"b":[2]}',
        "object_spaces": '{ "a" : 1 , "b" : 2 }', "object_empty_key": '{"":0}',
        "object_key_escape": r'{"\u0061b":1}', "object_keys_by_case": '{"a":1,"A":2}',
        "space_around": " \t\r\n[] \t\r\n", "crlf": "{\r\n\"a\":1\r\n}\r\n",
        "nested_64": "[" * 64 + "]" * 64, "nested_mixed": '{"a":[{"b":[{"c":1}]}]}',
        "solidus_plain": '"a/b"', "long_string": '"' + "x" * 300 + '"',
    }
    bad = {
        "empty": "", "space_only": " \n", "word": "nul", "word_case": "True", "word_more": "nullx",
        "nan": "NaN", "infinity": "Infinity", "minus_infinity": "-Infinity", "plus": "+1",
        "leading_zero": "01", "minus_leading_zero": "-01", "minus_only": "-", "point_first": ".5",
        "point_last": "1.", "point_twice": "1.2.3", "exponent_empty": "1e", "exponent_sign": "1e+",
        "exponent_point": "1e.5", "hex": "0x1F", "int_2_53_1": "9007199254740993",
        "int_long": "1" + "0" * 40, "overflow": "1e999", "minus_overflow": "-1e999",
        "underscore": "1_000", "string_open": '"abc', "string_open_escape": '"abc\\',
        "string_newline": '"a\nb"', "string_tab": '"a\tb"', "string_nul": b'"a\0b"',
        "single_quotes": "'a'", "escape_x": r'"\x41"', "escape_u_short": r'"\u12"',
        "escape_u_nohex": r'"\u12g4"', "escape_u_nul": r'"\u0000"', "escape_0": b'"\\\0"', "escape_octal": r'"\101"',
        "lone_high": r'"\ud800"', "lone_low": r'"\udc00"', "high_high": r'"\ud800\ud800"',
        "high_then_text": r'"\ud800abc"', "utf8_overlong": b'"\xc0\xaf"',
        "utf8_overlong_3": b'"\xe0\x80\xaf"', "utf8_surrogate": b'"\xed\xa0\x80"',
        "utf8_above": b'"\xf4\x90\x80\x80"', "utf8_cut": b'"\xe2\x82"', "utf8_lone_tail": b'"\x80"',
        "utf8_latin1": b'"\xe9"', "bom": b"\xef\xbb\xbf[]", "utf16": "[]".encode("utf-16-le"),
        "array_open": "[1", "array_comma_last": "[1,]", "array_comma_first": "[,1]",
        "array_comma_twice": "[1,,2]", "array_only_comma": "[,]", "array_no_comma": "[1 2]",
        "array_colon": "[1:2]", "array_close_object": "[1}", "close_only": "]", "array_twice": "[][]",
        "object_open": '{"a":1', "object_comma_last": '{"a":1,}', "object_comma_first": '{,"a":1}',
        "object_no_colon": '{"a" 1}', "object_colon_twice": '{"a"::1}', "object_no_value": '{"a":}',
        "object_key_only": '{"a"}', "object_bare_key": "{a:1}", "object_number_key": "{1:1}",
        "object_close_array": '{"a":1]', "object_key_twice": '{"a":1,"a":1}',
        "object_key_twice_escaped": r'{"a":1,"\u0061":2}', "comment": "[1] // no",
        "comment_block": "/* no */ 1", "two_values": "1 2", "text_after": "{} x",
        "nested_65": "[" * 65 + "]" * 65, "nested_open_500": "[" * 500, "form_feed": "[\f]",
        "nbsp": "[\u00a0]", "nul_after": b"[]\0", "nul_first": b"\0", "semicolon": "[1;2]",
    }
    for name, text in good.items():
        put("json", "y_" + name, text)
    for name, text in bad.items():
        put("json", "n_" + name, text)


# ---- model.json ----

DATA = '"data":{"random":{"x":[6,3],"y":[1],"rows":8}}'
LAYER = '"layers":[{"type":"flatten"},{"type":"dense","units":1}]'
LOSS = '"loss":{"type":"mse"}'


def model(*parts):
    return "{" + ",\n ".join(parts) + "}\n"


def layers(*items):
    return '"layers":[' + ",\n  ".join(items) + "]"


def model_files():
    flat, one = '{"type":"flatten"}', '{"type":"dense","units":1}'
    good = {
        "least": model(DATA, LAYER, LOSS),
        "all_parts": model('"name":"m"', DATA, LAYER, LOSS,
                           '"optimizer":{"type":"sgd","learning_rate":0.1,"momentum":0.9}',
                           '"train":{"epochs":2,"batch_size":4,"clip_norm":1.0,"seed":3}'),
        "csv": model('"data":{"csv":"a.csv","target":"t","window":4,"horizon":1}',
                     layers('{"type":"lstm","units":4,"return":"last"}', one), LOSS),
        "csv_list": model('"data":{"csv":["a.csv","b.csv"],"time":"date","features":["u","v"],'
                          '"target":["t"],"missing":"ffill","split":[5,2,2]}', layers(one), LOSS),
        "steps": model('"data":{"csv":"a.csv","target":"t","window":4,"steps":3}',
                       layers(flat, '{"type":"dense","units":3}'), LOSS),
        "classes": model('"data":{"idx":{"images":"i","labels":"l"}}',
                         layers('{"type":"conv2d","filters":2,"kernel":3,"activation":"relu"}',
                                '{"type":"max_pool2d"}', flat, '{"type":"dense","units":10}'),
                         '"loss":{"type":"cross_entropy"}'),
        "dag": model(DATA, layers('{"name":"a","type":"dense","units":4}',
                                  '{"name":"b","type":"dense","units":4,"input":"x"}',
                                  '{"type":"add","input":["a","b"]}', flat, one), LOSS),
        "block": model(DATA, layers('{"type":"dense","units":4}',
                                    '{"type":"transformer_block","heads":2,"causal":true,"dropout":0.1}',
                                    '{"type":"attention_pool","probe":"w"}', one), LOSS),
        "recurrent": model(DATA, layers('{"type":"gru","units":4,"layers":2,"bidirectional":true}',
                                        '{"type":"rnn","units":3,"return":"last","bias":"single"}', one), LOSS),
        "convs": model(DATA, layers('{"type":"conv1d","filters":4,"kernel":3,"stride":2,"dilation":2}',
                                    '{"type":"batch_norm"}', '{"type":"conv_transpose1d","filters":3,"kernel":2}',
                                    '{"type":"group_norm","groups":3}', '{"type":"pad1d","before":1,"mode":"constant"}',
                                    '{"type":"upsample1d"}', '{"type":"global_max_pool"}', one), LOSS),
        "more_layers": model(DATA, layers('{"type":"layer_norm"}', '{"type":"prelu"}', '{"type":"dropout","rate":0.5}',
                                          '{"type":"position_embedding"}', '{"type":"reshape","shape":[3,-1]}',
                                          '{"type":"transpose"}', '{"type":"last"}', '{"type":"softmax"}', one), LOSS),
    }
    bad = {
        "no_object": "[]", "empty": "", "empty_object": "{}", "no_layers": model(DATA, LOSS),
        "no_data": model(LAYER, LOSS), "no_loss": model(DATA, LAYER),
        "layers_empty": model(DATA, '"layers":[]', LOSS), "layers_object": model(DATA, '"layers":{}', LOSS),
        "key_unknown": model(DATA, LAYER, LOSS, '"optimiser":{}'),
        "type_unknown": model(DATA, layers('{"type":"dens","units":1}'), LOSS),
        "type_missing": model(DATA, layers('{"units":1}'), LOSS),
        "type_number": model(DATA, layers('{"type":1}'), LOSS),
        "units_missing": model(DATA, layers('{"type":"dense"}'), LOSS),
        "units_zero": model(DATA, layers('{"type":"dense","units":0}'), LOSS),
        "units_minus": model(DATA, layers('{"type":"dense","units":-1}'), LOSS),
        "units_fraction": model(DATA, layers('{"type":"dense","units":1.5}'), LOSS),
        "units_string": model(DATA, layers('{"type":"dense","units":"1"}'), LOSS),
        "units_2_32": model(DATA, layers('{"type":"dense","units":4294967296}'), LOSS),
        "units_2_60": model(DATA, layers('{"type":"dense","units":1152921504606846976}'), LOSS),
        "layers_1e6": model(DATA, layers('{"type":"lstm","units":4,"layers":1000000}', flat, one), LOSS),
        "key_unknown_in_layer": model(DATA, layers('{"type":"dense","units":1,"unit":1}'), LOSS),
        "key_twice": model(DATA, DATA, LAYER, LOSS),
        "name_twice": model(DATA, layers('{"name":"a","type":"flatten"}', '{"name":"a","type":"dense","units":1}'), LOSS),
        "name_with_slash": model(DATA, layers(flat, '{"name":"../a","type":"dense","units":1}'), LOSS),
        "input_later": model(DATA, layers('{"type":"dense","units":1,"input":"b"}', '{"name":"b","type":"flatten"}'), LOSS),
        "input_unknown": model(DATA, layers(flat, '{"type":"dense","units":1,"input":"q"}'), LOSS),
        "input_self": model(DATA, layers('{"name":"a","type":"dense","units":1,"input":"a"}'), LOSS),
        "add_of_one": model(DATA, layers('{"type":"add","input":["x"]}'), LOSS),
        "kernel_of_4": model(DATA, layers('{"type":"conv1d","filters":1,"kernel":[1,1,1,1]}'), LOSS),
        "rate_one": model(DATA, layers('{"type":"dropout","rate":1}'), LOSS),
        "loss_unknown": model(DATA, LAYER, '"loss":{"type":"mean"}'),
        "prediction_unknown": model(DATA, LAYER, '"loss":{"type":"mse","prediction":"q"}'),
        "optimizer_unknown": model(DATA, LAYER, LOSS, '"optimizer":{"type":"adm"}'),
        "clip_both": model(DATA, LAYER, LOSS, '"train":{"clip_norm":1,"clip_value":1}'),
        "epochs_minus": model(DATA, LAYER, LOSS, '"train":{"epochs":-1}'),
        "two_formats": model('"data":{"csv":"a","npy":{"x":"a","y":"b"},"target":"t"}', LAYER, LOSS),
        "no_format": model('"data":{"window":3}', LAYER, LOSS),
        "split_of_2": model('"data":{"csv":"a","target":"t","split":[1,1]}', LAYER, LOSS),
        "horizon_minus": model('"data":{"csv":"a","target":"t","horizon":-1}', LAYER, LOSS),
        "random_rank_9": model('"data":{"random":{"x":[1,1,1,1,1,1,1,1,1],"y":[1],"rows":1}}', LAYER, LOSS),
        "random_2_53": model('"data":{"random":{"x":[9007199254740992,9007199254740992],"y":[1],"rows":9007199254740992}}', LAYER, LOSS),
        "random_y_2_63": model('"data":{"random":{"x":[6],"y":[2147483647,2147483647,10],"rows":1}}', LAYER, LOSS),
        "random_classes_2_33": model('"data":{"random":{"x":[6],"rows":1,"classes":8589934592}}', LAYER, LOSS),
        "random_no_rows": model('"data":{"random":{"x":[1],"y":[1]}}', LAYER, LOSS),
        "truncated": model(DATA, LAYER, LOSS)[:-3], "nul": model(DATA, LAYER, LOSS).encode() + b"\0",
        "nested_100": model(DATA, '"layers":' + "[" * 100 + "]" * 100, LOSS),
    }
    either = {
        "units_2_31": model(DATA, layers(flat, '{"type":"dense","units":2147483647}', '{"type":"dense","units":2147483647}', one), LOSS),
        "filters_2_31": model(DATA, layers('{"type":"conv1d","filters":2147483647,"kernel":2147483647}', flat, one), LOSS),
        "kernel_2_31": model(DATA, layers('{"type":"conv1d","filters":2,"kernel":2147483647,"dilation":2147483647,"stride":2147483647}', flat, one), LOSS),
        "padding_2_31": model(DATA, layers('{"type":"conv1d","filters":2,"kernel":3,"padding":2147483647}', flat, one), LOSS),
        "upsample_2_31": model(DATA, layers('{"type":"upsample1d","scale":2147483647}', '{"type":"upsample1d","scale":2147483647}',
                                            '{"type":"upsample1d","scale":2147483647}', flat, one), LOSS),
        "pad_2_31": model(DATA, layers('{"type":"pad1d","before":2147483647,"after":2147483647,"mode":"reflect"}', flat, one), LOSS),
        "circular_2_31": model(DATA, layers('{"type":"pad1d","before":2147483647,"after":2147483647,"mode":"circular"}', flat, one), LOSS),
        "heads_2_31": model(DATA, layers('{"type":"transformer_block","heads":2147483647}', flat, one), LOSS),
        "hidden_2_31": model(DATA, layers('{"type":"transformer_block","heads":1,"hidden":2147483647}', flat, one), LOSS),
        "groups_2_31": model(DATA, layers('{"type":"conv1d","filters":2147483647,"kernel":1,"groups":2147483647}', flat, one), LOSS),
        "pool_2_31": model(DATA, layers('{"type":"avg_pool1d","kernel":2147483647,"stride":1}', flat, one), LOSS),
        "output_2_31": model(DATA, layers('{"type":"adaptive_avg_pool1d","output":2147483647}', flat, one), LOSS),
        "transpose_2_31": model(DATA, layers('{"type":"conv_transpose1d","filters":2,"kernel":2147483647,"stride":2147483647,"dilation":2147483647,"output_padding":2147483647}', flat, one), LOSS),
        "lstm_2_31": model(DATA, layers('{"type":"lstm","units":2147483647,"bidirectional":true}', flat, one), LOSS),
        "random_2_31": model('"data":{"random":{"x":[2147483647,2147483647],"y":[2147483647,2147483647],"rows":1}}', LAYER, LOSS),
        "classes_2_31": model('"data":{"random":{"x":[3],"y":[],"rows":9,"classes":2147483647}}', layers('{"type":"dense","units":2147483647}'), '"loss":{"type":"cross_entropy"}'),
        "window_2_31": model('"data":{"csv":"a","target":"t","window":2147483647,"horizon":2147483647}', layers('{"type":"lstm","units":1}', flat, one), LOSS),
        "steps_2_31": model('"data":{"csv":"a","target":"t","steps":2147483647}', layers(one), LOSS),
        "steps_1e9": model('"data":{"csv":"a","target":"t","steps":1000000000}', layers(one), LOSS),
        "layer_norm_axes": model(DATA, layers('{"type":"layer_norm","axes":6}', flat, one), LOSS),
        "reshape_huge": model(DATA, layers('{"type":"reshape","shape":[9007199254740992,9007199254740992,-1]}', flat, one), LOSS),
        "concat_axis": model(DATA, layers('{"type":"concat","input":["x","x"],"axis":-2147483648}', flat, one), LOSS),
        "conv2d_of_rank_2": model(DATA, layers('{"type":"conv2d","filters":2,"kernel":3}', flat, one), LOSS),
        "batch_2_31": model(DATA, LAYER, LOSS, '"train":{"batch_size":2147483647,"epochs":2147483647,"max_steps":9007199254740992}'),
    }
    for label, files in (("y_", good), ("n_", bad), ("i_", either)):
        for name, text in files.items():
            put("model", label + name, text)


# ---- IR text ----

def gir(body, inputs="%x: f32[2,3]"):
    return "graph (" + inputs + ") {\n" + "".join("  " + line + "\n" for line in body.split("\n")) + "}\n"


def gir_files():
    good = {
        "empty": "graph () {\n  return\n}\n",
        "identity": gir("return %x"),
        "elementwise": gir("%a = exp %x  : f32[2,3]\n%b = add %a, %x  : f32[2,3]\nreturn y: %b"),
        "numbers": gir("%1 = neg %x  : f32[2,3]\n%2 = neg %1  : f32[2,3]\nreturn %2"),
        "no_types": gir("%a = mul %x, %x\nreturn %a"),
        "comments": "# first\ngraph (%x: f32[2]) { # head\n  %a = neg %x # node\n\n  # alone\n  return %a # end\n}\n# last\n",
        "crlf": gir("%a = neg %x\nreturn %a").replace("\n", "\r\n"),
        "kinds": gir("%a = add %w, %s  : f32[2]\nreturn %s := %a",
                     "%x: f32[2], param %w: f32[2], state %s: f32[2], const %c: i32[]"),
        "region": gir("%a = exp %x  : f32[2,3]  @softmax.3\n%b = neg %a  : f32[2,3]  @softmax.3.bwd\nreturn %b"),
        "scan": gir("%z = const 0  : f32[3]\n%s = scan %z, %x carry=1 step=1 trip=2 (%c: f32[3], %t: f32[3]) {\n"
                    "  %n = add %c, %t\n  return %n, %n\n}\n%l = get %s index=0\n%all = get %s index=1\nreturn %l, %all"),
        "zero_extent": gir("%a = neg %x\nreturn %a", "%x: f32[0,3]"),
        "rank_8": gir("%a = neg %x\nreturn %a", "%x: f32[1,1,1,1,1,1,1,2]"),
        "types": gir("%a = cast %x  : f16[2]\n%b = cast %x  : bf16[2]\n%c = cast %x  : i32[2]\n%d = cast %x  : u8[2]\n"
                     "%e = cast %x  : i64[2]\n%f = cast %x  : bool[2]\n%g = cast %x  : f64[2]\nreturn %a, %b, %c, %d, %e, %f, %g",
                     "%x: f32[2]"),
        "huge_but_true": gir("%a = iota axis=0  : i32[1000000000000]\nreturn %a", "%x: f32[]"),
    }
    bad = {
        "nothing": "", "word": "grap () {\n  return\n}\n", "head_open": "graph (", "no_body": "graph ()",
        "body_open": "graph () {\n  return\n", "no_return": "graph () {\n}\n", "text_after": "graph () {\n  return\n}\nx\n",
        "undefined": gir("%a = neg %y\nreturn %a"), "later": gir("%a = neg %b\n%b = neg %x\nreturn %a"),
        "self": gir("%a = neg %a\nreturn %a"), "twice": gir("%a = neg %x\n%a = neg %x\nreturn %a"),
        "input_twice": gir("return", "%x: f32[], %x: f32[]"), "no_op": gir("%a = \nreturn %a"),
        "op_unknown": gir("%a = negate %x\nreturn %a"), "arity": gir("%a = add %x\nreturn %a"),
        "arity_more": gir("%a = neg %x, %x\nreturn %a"),
        "shapes_differ": gir("%a = add %x, %y\nreturn %a", "%x: f32[2], %y: f32[3]"),
        "types_differ": gir("%a = add %x, %y\nreturn %a", "%x: f32[2], %y: i32[2]"),
        "type_wrong": gir("%a = neg %x  : f32[3,2]\nreturn %a"), "type_unknown": gir("return", "%x: f31[2]"),
        "extent_minus": gir("return", "%x: f32[-1]"), "extent_2_63": gir("return", "%x: f32[9223372036854775808]"),
        "count_overflows": gir("return", "%x: f32[4294967296,4294967296]"),
        "bytes_overflow": gir("return", "%x: f64[4611686018427387904]"),
        "rank_9": gir("return", "%x: f32[1,1,1,1,1,1,1,1,1]"), "extent_word": gir("return", "%x: f32[n]"),
        "bracket_open": gir("return", "%x: f32[2"), "name_bad": gir("%é = neg %x\nreturn"), "name_empty": gir("% = neg %x\nreturn"),
        "name_long": gir("%" + "a" * 300 + " = neg %x\nreturn"), "attr_unknown": gir("%a = sum %x axis=0 fast=1\nreturn %a"),
        "attr_list_open": gir("%a = sum %x axes=[0\nreturn %a"), "axis_out": gir("%a = sum %x axes=[5]\nreturn %a"),
        "get_of_plain": gir("%a = get %x index=0\nreturn %a"), "replace_batch": gir("return %x := %x"),
        "replace_type": gir("return %w := %x", "param %w: f32[2], %x: f32[3]"),
        "replace_twice": gir("return %w := %x, %w := %x", "param %w: f32[2], %x: f32[2]"),
        "replaced_is_read": gir("return %w := %x, %w", "param %w: f32[2], %x: f32[2]"),
        "output_name_twice": gir("return a: %x, a: %x"), "body_of_params": gir("%f = fusion %x kind=a (param %y: f32[2,3]) {\n  return %y\n}\n%a = get %f index=0\nreturn %a"),
        "return_undefined": gir("return %q"), "region_bad": gir("%a = exp %x @softmax\nreturn %a"),
        "region_number": gir("%a = exp %x @softmax.99999999999\nreturn %a"), "nul": gir("return").encode()[:-3] + b"\0}\n",
        "deep": "graph () {\n" + "%s = fusion kind=a () {\n" * 40,
        "scan_no_body": gir("%s = scan %x carry=1 step=0 trip=2\nreturn"),
        "matmul_inner": gir("%a = matmul %x, %x\nreturn %a"),
    }
    for name, text in good.items():
        put("gir", "y_" + name, text)
    for name, text in bad.items():
        put("gir", "n_" + name, text)


# ---- CSV: RFC 4180 and what is found beside it ----

def csv_files():
    good = {
        "plain": "a,b\n1,2\n3,4\n", "crlf": "a,b\r\n1,2\r\n", "cr": "a,b\r1,2\r", "no_last_newline": "a,b\n1,2",
        "bom": b"\xef\xbb\xbfa,b\n1,2\n", "quotes": '"a","b"\n"1","2"\n', "quoted_comma": 'a,b\n"x,y",2\n',
        "quoted_quote": 'a,b\n"x""y",2\n', "quoted_newline": 'a,b\n"x\r\ny",2\n', "quoted_empty": 'a,b\n"",2\n',
        "quoted_header": '"a,b","c ""d"""\n1,2\n', "empty_cells": "a,b,c\n,,\n1,,3\n", "blanks": " a , b \n 1 ,\t2 \n",
        "blank_lines": "\n\na,b\n\n1,2\n  \n3,4\n\n", "semicolon": "a;b\n1;2,5\n", "tab": "a\tb\n1\t\n", "bar": "a|b\n1|2\n",
        "one_column": "a\n1\n2\n", "one_cell": "a\nx", "text": "a,b\nfoo,bar\n", "utf8": "größe,b\n1,2\n",
        "unnamed_column": ",b\n1,2\n", "latin1_in_cell": b"a,b\n\xe9,2\n", "missing_words": "a,b\nNA,NaN\nnull,?\n#N/A,none\n",
        "numbers": "a\n1\n-1.5e3\n+.5\n1e-400\n0x10\n1e999\n", "year_header": "2010,2011\n1,2\n",
        "gzip": packed(b"a,b\n1,2\n"), "gzip_twice": packed(b"a,b\n") + packed(b"1,2\n"),
        "long_number": "a\n" + "1" * 60 + "." + "3" * 60 + "\n", "dates": "t,v\n2014-12-31 23:00,1\n31/12/2014,2\n12/31/14,3\n",
    }
    bad = {
        "empty": "", "newlines_only": "\n\r\n\n", "bom_only": b"\xef\xbb\xbf", "header_only": "a,b\n",
        "ragged_less": "a,b\n1\n", "ragged_more": "a,b\n1,2,3\n", "ragged_later": "a,b\n1,2\n3\n",
        "trailing_separator": "a,b\n1,2,\n", "quote_open": 'a,b\n"1,2\n', "quote_open_header": '"a,b\n1,2\n',
        "text_after_quote": 'a,b\n"1"2,3\n', "quote_open_at_end": 'a,b\n1,"', "nul": b"a,b\n1,\x002\n", "nul_first": b"\0a,b\n1,2\n",
        "utf16_le": "\ufeffa,b\n1,2\n".encode("utf-16-le"), "utf16_be": "\ufeffa,b\n1,2\n".encode("utf-16-be"),
        "header_latin1": b"gr\xf6\xdfe,b\n1,2\n", "header_twice": "a,a\n1,2\n", "header_numbers": "1.5,2.5\n1,2\n",
        "header_cut_utf8": b"a\xc3,b\n1,2\n", "blank_row_of_two": "a,b\n,\n1\n", "gzip_cut": packed(b"a,b\n1,2\n")[:-6],
        "gzip_sum": packed(b"a,b\n1,2\n")[:-8] + b"\0\0\0\0\x08\0\0\0", "gzip_only_magic": b"\x1f\x8b",
    }
    either = {"bomb": packed(b"," * 300_000), "commas": "a" + "," * 500 + "\n" + "," * 500, "quotes_many": 'a\n"' + '""' * 500 + '"\n'}
    for label, files in (("y_", good), ("n_", bad), ("i_", either)):
        for name, text in files.items():
            put("csv", label + name, text)
    put("csv", "n_gzip_bomb", packed(b"a\n" + b"1\n" * 2_500_000))


# ---- NPY ----

def npy(descr="'<f4'", order="False", shape="(2, 3)", data=None, version=1, pad=True, keys=None):
    head = keys or "{'descr': %s, 'fortran_order': %s, 'shape': %s, }" % (descr, order, shape)
    head = head.encode()
    skip = 10 if version == 1 else 12
    if pad:
        head += b" " * (-(skip + len(head) + 1) % 16) + b"\n"
    size = struct.pack("<H" if version == 1 else "<I", len(head))
    return b"\x93NUMPY" + bytes([version, 0]) + size + head + (struct.pack("<6f", *range(6)) if data is None else data)


def npy_files():
    good = {
        "f4": npy(), "version_2": npy(version=2), "version_3": npy(version=3), "no_padding": npy(pad=False),
        "f8": npy("'<f8'", data=struct.pack("<6d", *range(6))), "big_endian": npy("'>f4'", data=struct.pack(">6f", *range(6))),
        "i1": npy("'|i1'", data=bytes(range(250, 256))), "i2": npy("'<i2'", data=bytes(12)), "i4": npy("'<i4'"),
        "i8": npy("'>i8'", data=bytes(48)), "u1": npy("'|u1'", data=bytes(6)), "u2": npy("'<u2'", data=bytes(12)),
        "u4": npy("'<u4'"), "u8": npy("'<u8'", data=b"\xff" * 48), "bool": npy("'|b1'", data=b"\0\1\0\1\1\1"),
        "vector": npy(shape="(6,)"), "cube": npy(shape="(1, 2, 3)"), "rank_8": npy(shape="(1, 1, 1, 1, 1, 1, 2, 3)"),
        "nan": npy(data=struct.pack("<6f", *[float("nan")] * 6)),
        "keys_other_order": npy(keys="{'shape': (2, 3), 'descr': '<f4', 'fortran_order': False}"),
        "gzip": packed(npy()), "spaces": npy(keys="{'descr' :  '<f4', 'fortran_order':False, 'shape':( 2 ,3 )}"),
    }
    bad = {
        "empty": b"", "magic_only": b"\x93NUMPY", "magic": b"\x93NUMPX" + npy()[6:], "header_cut": npy()[:40],
        "version_0": npy(version=1)[:6] + b"\0" + npy()[7:], "version_9": npy()[:6] + b"\x09" + npy()[7:],
        "header_longer_than_file": npy()[:8] + b"\xff\xff" + npy()[10:], "data_cut": npy()[:-1], "data_more": npy() + b"\0",
        "fortran": npy(order="True"), "order_missing": npy(keys="{'descr': '<f4', 'shape': (2, 3)}"),
        "descr_missing": npy(keys="{'fortran_order': False, 'shape': (2, 3)}"),
        "shape_missing": npy(keys="{'descr': '<f4', 'fortran_order': False}"), "scalar": npy(shape="()", data=bytes(4)),
        "object": npy("'|O'"), "text": npy("'<U3'"), "complex": npy("'<c8'", data=bytes(48)), "f2": npy("'<f2'", data=bytes(12)),
        "record": npy("[('a', '<f4'), ('b', '<f4')]", shape="(3,)"), "shape_minus": npy(shape="(-2, 3)"),
        "shape_word": npy(shape="(two, 3)"), "shape_open": npy(keys="{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3"),
        "rank_9": npy(shape="(1, 1, 1, 1, 1, 1, 1, 2, 3)"), "declares_32_gib": npy("'<f8'", shape="(65536, 65536)", data=b"")[:80],
        "shape_2_64": npy(shape="(18446744073709551616,)"), "product_2_64": npy(shape="(4294967296, 4294967296)"),
        "no_rows": npy(shape="(0, 3)", data=b""), "no_columns": npy(shape="(2, 0)", data=b""),
        "rows_of_nothing": npy(shape="(1152921504606846976, 0)", data=b""),
        "cubes_of_nothing": npy(shape="(1152921504606846976, 2, 0)", data=b""),
        "infinite": npy(data=struct.pack("<6f", *[float("inf")] * 6)), "beyond_f32": npy("'<f8'", data=struct.pack("<6d", *[1e300] * 6)),
        "descr_cut": npy("'<f4", shape="(2, 3)"), "descr_order": npy("'?f4'"), "nul_in_header": npy(keys="{'descr': '<f4',\0 'fortran_order': False, 'shape': (2, 3)}"),
        "key_twice": npy(keys="{'descr': '<f4', 'descr': '<f8', 'fortran_order': False, 'shape': (2, 3)}"),
        "shape_tail": npy(shape="(2 3)"), "no_dictionary": npy(keys="'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)"),
    }
    for label, files in (("y_", good), ("n_", bad)):
        for name, data in files.items():
            put("npy", label + name, data)


# ---- IDX ----

def idx(dims, data, kind=8):
    return bytes([0, 0, kind, len(dims)]) + b"".join(struct.pack(">I", d) for d in dims) + data


def idx_files():
    good = {
        "labels": idx([5], bytes(range(5))), "images": idx([2, 3, 4], bytes(24)), "one": idx([1], b"\x07"),
        "rank_4": idx([1, 2, 2, 3], bytes(12)), "rank_8": idx([1] * 8, b"\1"), "gzip": packed(idx([2, 2], bytes(4))),
        "matrix": idx([3, 2], bytes(6)),
    }
    bad = {
        "empty": b"", "cut_magic": b"\0\0\x08", "magic_first": b"\1" + idx([1], b"\0")[1:], "magic_second": b"\0\1" + idx([1], b"\0")[2:],
        "rank_0": bytes([0, 0, 8, 0]), "rank_9": idx([1] * 9, b"\1"), "rank_255": bytes([0, 0, 8, 255]), "header_cut": idx([2, 3], b"")[:9],
        "data_cut": idx([2, 3], bytes(5)), "data_more": idx([2, 3], bytes(7)), "float": idx([1], bytes(4), 13), "int": idx([1], bytes(4), 12),
        "type_0": idx([1], b"\0", 0), "no_rows": idx([0, 3], b""), "no_pixels": idx([3, 0], b""),
        "rows_of_nothing": idx([4294967295, 0], b""), "declares_4_gib": idx([4294967295], b""),
        "product_2_64": idx([4294967295, 4294967295, 4294967295], b""), "product_2_128": idx([4294967295] * 4, b""),
    }
    for label, files in (("y_", good), ("n_", bad)):
        for name, data in files.items():
            put("idx", label + name, data)


# ---- safetensors ----

def st(header, data=b"", size=None):
    header = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(header) if size is None else size) + header + data


def tensor(name, lo, hi, dtype="F32", shape="[%d]"):
    return '"%s":{"dtype":"%s","shape":%s,"data_offsets":[%d,%d]}' % (
        name, dtype, shape % ((hi - lo) // 4) if "%" in shape else shape, lo, hi)


def safetensors_files():
    a, b = tensor("a", 0, 8), tensor("b", 8, 12)
    digits = '{"__metadata__":{"xxh3":"%s"},' + a + "}"
    zeros = st(digits % ("0" * 32), bytes(8))
    good = {
        "none": st("{}"), "one": st("{" + a + "}", bytes(8)), "two": st("{" + a + "," + b + "}", bytes(12)),
        "other_order": st("{" + b + "," + a + "}", bytes(12)), "spaces": st(" { " + a.replace(":", " : ") + " } \n", bytes(8)),
        "metadata": st('{"__metadata__":{"k":"v","empty":""},' + a + "}", bytes(8)), "metadata_empty": st('{"__metadata__":{}}'),
        "scalar": st("{" + tensor("s", 0, 4, shape="[]") + "}", bytes(4)), "zero_extent": st("{" + tensor("z", 0, 0, shape="[0,3]") + "," + a + "}", bytes(8)),
        "rank_8": st("{" + tensor("a", 0, 8, shape="[1,1,1,1,1,1,1,2]") + "}", bytes(8)),
        "types": st("{" + ",".join(tensor(t, 8 * i, 8 * i + 8, t, "[%d]" % (8 // w)) for i, (t, w) in enumerate(
            (("F64", 8), ("F32", 4), ("F16", 2), ("BF16", 2), ("I32", 4), ("I64", 8), ("U8", 1), ("BOOL", 1)))) + "}", bytes(64)),
        "escapes": st(r'{"__metadata__":{"a\"\\\/\n":"\u0041"}}'), "utf8": st('{"__metadata__":{"ä":"€"}}'),
        "name_empty": st("{" + tensor("", 0, 8) + "}", bytes(8)), "padded": st("{" + a + "}" + " " * 9, bytes(8)),
        "checksum": st(digits % hash_hex(zeros).decode(), bytes(8)),
    }
    bad = {
        "empty": b"", "seven_bytes": bytes(7), "length_only": bytes(8), "length_2_64": b"\xff" * 8, "length_2_63": bytes(7) + b"\x80",
        "length_too_long": st("{}", size=3), "length_too_short": st("{}  ", size=1), "no_object": st("[]"), "not_json": st("x"),
        "header_open": st("{"), "comma_last": st("{" + a + ",}", bytes(8)), "two_objects": st("{}{}"), "nul": st(b"{}\0"),
        "overlap": st("{" + tensor("a", 0, 8) + "," + tensor("b", 4, 12) + "}", bytes(12)),
        "same_span": st("{" + tensor("a", 0, 8) + "," + tensor("b", 0, 8) + "}", bytes(8)),
        "hole": st("{" + tensor("a", 0, 4) + "," + tensor("b", 8, 12) + "}", bytes(12)), "hole_first": st("{" + b + "}", bytes(12)),
        "data_cut": st("{" + a + "}", bytes(7)), "data_more": st("{" + a + "}", bytes(9)), "data_of_nobody": st("{}", bytes(4)),
        "offsets_turned": st("{" + tensor("a", 8, 0, shape="[2]") + "}", bytes(8)), "offset_minus": st("{" + a.replace("[0,8]", "[-1,7]") + "}", bytes(8)),
        "offsets_of_3": st("{" + a.replace("[0,8]", "[0,8,8]") + "}", bytes(8)), "offsets_of_1": st("{" + a.replace("[0,8]", "[8]") + "}", bytes(8)),
        "offset_2_64": st("{" + a.replace("[0,8]", "[0,18446744073709551624]") + "}", bytes(8)), "shape_wrong": st("{" + tensor("a", 0, 8, shape="[3]") + "}", bytes(8)),
        "shape_overflow": st("{" + tensor("a", 0, 8, shape="[4294967296,4294967296,4]") + "}", bytes(8)),
        "shape_overflow_then_0": st("{" + tensor("a", 0, 0, shape="[4294967296,4294967296,4294967296,0]") + "}"),
        "shape_fraction": st("{" + tensor("a", 0, 8, shape="[2.0]") + "}", bytes(8)), "rank_9": st("{" + tensor("a", 0, 8, shape="[1,1,1,1,1,1,1,1,2]") + "}", bytes(8)),
        "shape_leading_zero": st("{" + tensor("a", 0, 8, shape="[02]") + "}", bytes(8)), "dtype_unknown": st("{" + tensor("a", 0, 8, "F33") + "}", bytes(8)),
        "dtype_missing": st('{"a":{"shape":[2],"data_offsets":[0,8]}}', bytes(8)), "shape_missing": st('{"a":{"dtype":"F32","data_offsets":[0,8]}}', bytes(8)),
        "offsets_missing": st('{"a":{"dtype":"F32","shape":[2]}}', bytes(8)), "key_unknown": st('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1}}', bytes(8)),
        "dtype_twice": st('{"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}', bytes(8)), "name_twice": st("{" + a + "," + a + "}", bytes(8)),
        "metadata_twice": st('{"__metadata__":{},"__metadata__":{}}'), "metadata_key_twice": st('{"__metadata__":{"a":"1","a":"2"}}'),
        "metadata_number": st('{"__metadata__":{"a":1}}'), "metadata_list": st('{"__metadata__":[]}'), "escape_nul": st(r'{"__metadata__":{"a":"\u0000"}}'),
        "escape_high": st(r'{"__metadata__":{"a":"\u00e9"}}'), "escape_unknown": st(r'{"__metadata__":{"a":"\x"}}'), "control": st('{"__metadata__":{"a":"\n"}}'),
        "string_open": st('{"__metadata__":{"a'), "checksum": st(digits % ("0" * 32), bytes(8)),
        "checksum_of_other_data": st(digits % hash_hex(zeros).decode(), bytes(7) + b"\1"),
    }
    for label, files in (("y_", good), ("n_", bad)):
        for name, data in files.items():
            put("safetensors", label + name, data)


# ---- cache entries: data, what, how, then the footer; the key is tests/fuzz/cache.c's ----

def entry(data=b"ELF..", what=b"isa: x\n\nint f;\n", how=b"cc: gcc\n", magic=b"gtc cache 1\n\0\0\0\0", sizes=None, total=None):
    sizes = sizes or (len(data), len(what), len(how))
    body = data + what + how + magic + struct.pack("<3Q", *sizes)
    return body + (total or hash_hex(body))


def cache_files():
    good = {"plain": entry(), "no_data": entry(b""), "nul_in_data": entry(b"\0\1\2" * 9)}
    bad = {
        "empty": b"", "footer_cut": entry()[-71:], "sum_cut": entry()[:-1], "one_more": entry() + b"\0", "data_cut": entry()[1:],
        "data_flipped": b"e" + entry()[1:], "magic": entry(magic=b"gtc cache 0\n\0\0\0\0"), "sum": entry(total=b"0" * 32),
        "sizes_2_64": entry(sizes=(2**64 - 1, 15, 9)), "sizes_wrap": entry(sizes=(2**64 - 23 + 5, 15, 8 + 23)),
        "sizes_less": entry(sizes=(4, 15, 8)), "sizes_more": entry(sizes=(6, 15, 8)), "zeros": bytes(100),
    }
    either = {
        "other_key": entry(what=b"isa: y\n\nint f;\n"), "other_maker": entry(how=b"cc: cla\n"), "keys_shifted": entry(b"ELF..i", b"sa: x\n\nint f;\n"),
    }
    for label, files in (("y_", good), ("n_", bad), ("i_", either)):
        for name, data in files.items():
            put("cache", label + name, data)


# ---- WAV ----

def chunk(tag, data):
    return tag + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def fmt(channels=1, rate=8000, bits=16, tag=1, tail=b""):
    return chunk(b"fmt ", struct.pack("<HHIIHH", tag, channels, rate, rate * channels * bits // 8, channels * bits // 8, bits) + tail)


def wav(*chunks):
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def wav_files():
    samples = chunk(b"data", struct.pack("<6h", 0, 1, -1, 32767, -32768, 5))
    good = {
        "mono": wav(fmt(), samples), "stereo": wav(fmt(2), samples), "chunk_between": wav(fmt(), chunk(b"LIST", b"abc"), samples),
        "chunk_first": wav(chunk(b"JUNK", bytes(6)), fmt(), samples), "chunk_after": wav(fmt(), samples, chunk(b"id3 ", bytes(4))),
        "extensible": wav(fmt(tag=0xFFFE, tail=struct.pack("<HHI", 22, 16, 4) + struct.pack("<H", 1) + bytes(14)), samples),
    }
    bad = {
        "empty": b"", "riff_only": b"RIFF", "no_wave": b"RIFF\4\0\0\0WAVX", "no_chunks": wav(), "no_data": wav(fmt()), "no_format": wav(samples),
        "data_first": wav(samples, fmt()), "format_short": wav(chunk(b"fmt ", bytes(14)), samples), "format_cut": wav(fmt())[:30],
        "data_longer_than_file": wav(fmt(), samples)[:-2], "data_2_32": wav(fmt(), b"data\xff\xff\xff\xff"), "no_samples": wav(fmt(), chunk(b"data", b"")),
        "no_channels": wav(fmt(0), samples), "channels_65": wav(fmt(65), samples), "rate_0": wav(fmt(rate=0), samples), "float": wav(fmt(tag=3, bits=32), samples),
        "bits_24": wav(fmt(bits=24), samples), "chunk_2_32": wav(b"JUNK\xff\xff\xff\xff", fmt(), samples),
    }
    either = {"odd_data": wav(fmt(2), chunk(b"data", bytes(7))), "two_formats": wav(fmt(), fmt(2), samples), "two_data": wav(fmt(), samples, samples)}
    for label, files in (("y_", good), ("n_", bad), ("i_", either)):
        for name, data in files.items():
            put("wav", label + name, data)


# ---- text ----

def text_files():
    good = {"one": "a", "lines": "to be\nor not\n", "utf8": "ä€😀", "bom": b"\xef\xbb\xbfab", "crlf": "a\r\nb", "last_code_point": "\U0010ffff", "gzip": packed(b"abc\n")}
    bad = {
        "empty": b"", "bom_only": b"\xef\xbb\xbf", "nul": b"a\0b", "lone_tail": b"a\x80", "overlong": b"\xc0\xaf", "overlong_3": b"\xe0\x80\xaf",
        "surrogate": b"\xed\xa0\x80", "above": b"\xf4\x90\x80\x80", "cut_2": b"a\xc3", "cut_4": b"\xf0\x9f\x98", "latin1": b"gr\xf6\xdfe\n", "fe": b"\xfe\xff",
    }
    for label, files in (("y_", good), ("n_", bad)):
        for name, data in files.items():
            put("text", label + name, data)


def main():
    for make in (json_files, model_files, gir_files, csv_files, npy_files, idx_files, safetensors_files, cache_files, wav_files, text_files):
        make()
    here = {(folder, name) for folder in os.listdir(HERE) if os.path.isdir(os.path.join(HERE, folder))
            for name in os.listdir(os.path.join(HERE, folder)) if not name.startswith("i_found_")}
    if sys.argv[1:] != ["--check"]:
        for folder, name in here - set(FILES):
            os.remove(os.path.join(HERE, folder, name))
        for (folder, name), data in FILES.items():
            os.makedirs(os.path.join(HERE, folder), exist_ok=True)
            with open(os.path.join(HERE, folder, name), "wb") as f:
                f.write(data)
        print(f"{len(FILES)} files, {sum(map(len, FILES.values()))} bytes")
        return 0
    faults = sorted("/".join(key) for key in here ^ set(FILES))
    for key in sorted(here & set(FILES)):
        with open(os.path.join(HERE, *key), "rb") as f:
            if f.read() != FILES[key]:
                faults.append("/".join(key))
    for fault in faults:
        print(f"{fault}: not what make.py writes")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
