"""Prints the public API of a crate, one item per line, from rustdoc's JSON."""

import json
import re
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    crate = json.load(file)
index = crate["index"]
lines = set()


def item(number):
    return index.get(str(number))


def joined(parts, before="", after="", separator=", "):
    """The parts within brackets, or nothing if there are none."""
    text = separator.join(parts)
    return before + text + after if text else ""


def type_(value):
    if value == "infer":
        return "_"
    ((kind, inner),) = value.items()
    match kind:
        case "primitive" if inner == "never":
            return "!"
        case "generic" | "primitive":
            return inner
        case "resolved_path":
            return path(inner)
        case "dyn_trait":
            bounds = map(trait_, inner["traits"])
            return "dyn " + " + ".join(filter(None, [*bounds, inner["lifetime"]]))
        case "impl_trait":
            return "impl " + bounds_(inner)
        case "borrowed_ref":
            lifetime = joined([inner["lifetime"] or ""], after=" ")
            return f"&{lifetime}{'mut ' * inner['is_mutable']}{enclosed(inner['type'])}"
        case "raw_pointer":
            return f"*{'mut' if inner['is_mutable'] else 'const'} {enclosed(inner['type'])}"
        case "tuple":
            return "(" + ", ".join(map(type_, inner)) + ("," * (len(inner) == 1)) + ")"
        case "slice":
            return f"[{type_(inner)}]"
        case "array":
            return f"[{type_(inner['type'])}; {inner['len']}]"
        case "function_pointer":
            inputs = (type_(each) for _, each in inner["sig"]["inputs"])
            return f"{higher(inner['generic_params'])}fn({', '.join(inputs)}){output(inner['sig'])}"
        case "qualified_path":
            own, trait = type_(inner["self_type"]), inner["trait"]
            own = f"<{own} as {path(trait)}>" if trait and trait["path"] else own
            return f"{own}::{inner['name']}{args(inner['args'])}"
    raise ValueError(f"unknown kind of type: {kind}")


def enclosed(value):
    """A type behind `&` or `*`, in parentheses if it has several bounds."""
    text = type_(value)
    several = " + " in text and next(iter(value)) in ("dyn_trait", "impl_trait")
    return f"({text})" if several else text


def path(value):
    """A path as it is written in the source, but `crate::…::X` as `X`."""
    name = value["path"]
    return (name.rpartition("::")[2] if name.startswith("crate::") else name) + args(value["args"])


def trait_(value):
    """A trait as a bound, with the lifetimes that it is for."""
    return higher(value["generic_params"]) + path(value["trait"])


def args(value):
    if not value:
        return ""
    if "parenthesized" in value:
        inner = value["parenthesized"]
        return f"({', '.join(map(type_, inner['inputs']))}){output(inner)}"
    inner = value["angle_bracketed"]
    parts = []
    for each in inner["args"]:
        if each == "infer":
            parts.append("_")
        elif "const" in each:
            parts.append(each["const"]["expr"])
        else:
            parts.append(each.get("lifetime") or type_(each["type"]))
    for each in inner["constraints"]:
        binding = each["binding"]
        if "equality" in binding:
            parts.append(f"{each['name']} = {type_(binding['equality']['type'])}")
        else:
            parts.append(f"{each['name']}: {bounds_(binding['constraint'])}")
    return joined(parts, "<", ">")


def output(signature):
    return f" -> {type_(signature['output'])}" if signature["output"] else ""


def higher(params):
    return joined([each["name"] for each in params], "for<", "> ")


def bounds_(bounds):
    parts = []
    for bound in bounds:
        if "outlives" in bound:
            parts.append(bound["outlives"])
        elif "use" in bound:
            names = (each.get("lifetime") or each.get("param") for each in bound["use"])
            parts.append(f"use<{', '.join(names)}>")
        else:
            inner = bound["trait_bound"]
            modifier = "?" if inner["modifier"] == "maybe" else ""
            parts.append(modifier + trait_(inner))
    return " + ".join(parts)


def params(generics):
    parts = []
    for each in generics["params"]:
        ((kind, inner),) = each["kind"].items()
        if kind == "type" and not inner["is_synthetic"]:
            default = f" = {type_(inner['default'])}" if inner["default"] else ""
            parts.append(each["name"] + joined([bounds_(inner["bounds"])], ": ") + default)
        elif kind == "const":
            parts.append(f"const {each['name']}: {type_(inner['type'])}")
        elif kind == "lifetime":
            parts.append(each["name"] + joined(inner["outlives"], ": ", separator=" + "))
    return joined(parts, "<", ">")


def predicates(generics):
    parts = []
    for each in generics["where_predicates"]:
        if "bound_predicate" in each:
            inner = each["bound_predicate"]
            name = higher(inner["generic_params"]) + type_(inner["type"])
            parts.append(f"{name}: {bounds_(inner['bounds'])}")
        elif "lifetime_predicate" in each:
            inner = each["lifetime_predicate"]
            parts.append(f"{inner['lifetime']}: {' + '.join(inner['outlives'])}")
    return parts


def impl_predicates(generics):
    """The bounds of an `impl`, for the `where` of each of its items."""
    parts = []
    for each in generics["params"]:
        if bounds := bounds_(each["kind"].get("type", {}).get("bounds", [])):
            parts.append(f"{each['name']}: {bounds}")
    return parts + predicates(generics)


def function(it, prefix, extra=(), in_trait=False):
    inner = it["inner"]["function"]
    header = inner["header"]
    words = "".join(f"{word} " for word in ("const", "async", "unsafe") if header[f"is_{word}"])
    inputs = []
    for name, value in inner["sig"]["inputs"]:
        text = type_(value)
        if name == "self" and re.fullmatch(r"(&('\w+ )?(mut )?)?Self", text):
            inputs.append(text.replace("Self", "self"))
        else:
            inputs.append(f"{name}: {text}")
    where = joined([*predicates(inner["generics"]), *extra], " where ")
    body = " { … }" if in_trait and inner["has_body"] else ""
    emit(it, f"{words}fn {prefix}{it['name']}{params(inner['generics'])}({', '.join(inputs)})"
             f"{output(inner['sig'])}{where}{body}")


def emit(it, text):
    """Prints an item, with those of its attributes that concern users."""
    for attr in it["attrs"]:
        kind = attr if isinstance(attr, str) else next(iter(attr))
        if kind in ("must_use", "non_exhaustive"):
            text += f" #[{kind}]"
    lines.add((text.partition("::")[2], f"pub {text}"))


def members(numbers, prefix, extra=(), in_trait=False):
    for it in filter(None, map(item, numbers)):
        ((kind, inner),) = it["inner"].items()
        if kind == "function":
            function(it, prefix, extra, in_trait)
        elif kind in ("assoc_const", "assoc_type"):
            text = f"{kind.removeprefix('assoc_')} {prefix}{it['name']}"
            text += joined([bounds_(inner.get("bounds", []))], ": ")
            if inner["type"]:
                text += (": " if kind == "assoc_const" else " = ") + type_(inner["type"])
            emit(it, text)


def fields(numbers, prefix):
    for it in filter(None, map(item, numbers)):
        emit(it, f"{prefix}{it['name']}: {type_(it['inner']['struct_field'])}")


def tuple_fields(shape):
    """The types of the public fields of a tuple struct or variant."""
    parts = filter(None, map(item, shape["tuple"]))
    return [type_(each["inner"]["struct_field"]) for each in parts]


def impls(numbers, name):
    for it in map(item, numbers):
        inner = it["inner"]["impl"]
        if inner["blanket_impl"]:
            continue
        trait = inner["trait"]
        own = type_(inner["for"])
        if not trait:
            prefix = name.removesuffix(name.rpartition("::")[2]) + own + "::"
            members(inner["items"], prefix, impl_predicates(inner["generics"]))
        elif not inner["is_synthetic"] or trait["path"] in ("Send", "Sync"):
            if trait["path"] == "StructuralPartialEq":
                continue
            where = joined(predicates(inner["generics"]), " where ")
            name = "!" * inner["is_negative"] + path(trait)
            lines.add((own, f"impl{params(inner['generics'])} {name} for {own}{where}"))


def visit(it, prefix, name=None):
    ((kind, inner),) = it["inner"].items()
    name = prefix + (name or it["name"] or "")
    where = joined(predicates(inner["generics"]), " where ") if "generics" in inner else ""
    match kind:
        case "module":
            emit(it, f"mod {name}")
            for each in filter(None, map(item, inner["items"])):
                visit(each, f"{name}::")
        case "use":
            target = item(inner["id"])
            if not target:
                emit(it, f"use {prefix}{inner['name']} = {inner['source']}")
            elif inner["is_glob"]:
                for each in map(item, target["inner"]["module"]["items"]):
                    visit(each, prefix)
            else:
                visit(target, prefix, inner["name"])
        case "function":
            function(it, prefix)
        case "struct":
            shape = inner["kind"]
            if shape == "unit":
                text = ""
            elif "tuple" in shape:
                text = joined([f"pub {each}" for each in tuple_fields(shape)], "(", ")")
            else:
                text = ""
                fields(shape["plain"]["fields"], f"{name}::")
            emit(it, f"struct {name}{params(inner['generics'])}{text}{where}")
            impls(inner["impls"], name)
        case "enum":
            emit(it, f"enum {name}{params(inner['generics'])}{where}")
            for each in map(item, inner["variants"]):
                shape = each["inner"]["variant"]["kind"]
                text = ""
                if "tuple" in shape:
                    text = joined(tuple_fields(shape), "(", ")")
                elif "struct" in shape:
                    fields(shape["struct"]["fields"], f"{name}::{each['name']}::")
                emit(each, f"{name}::{each['name']}{text}")
            impls(inner["impls"], name)
        case "trait":
            bounds = joined([bounds_(inner["bounds"])], ": ")
            emit(it, f"trait {name}{params(inner['generics'])}{bounds}{where}")
            members(inner["items"], f"{name}::", in_trait=True)
        case "type_alias":
            emit(it, f"type {name}{params(inner['generics'])} = {type_(inner['type'])}{where}")
        case "constant":
            emit(it, f"const {name}: {type_(inner['type'])}")
        case "static":
            emit(it, f"static {name}: {type_(inner['type'])}")
        case "macro":
            emit(it, f"macro {name}!")
        case _:
            raise ValueError(f"unknown kind of item: {kind}")


visit(item(crate["root"]), "")
for _, line in sorted(lines):
    print(line)
