"""Small trained nets of MXNet, as files, with the attributes that real ones have."""

import json

import numpy as np

SIDE, CLASSES = 18, 4


def examples(count=64, channels=3, seed=0):
    """Return images of classes that can be told apart, 0 to 255, and their labels."""
    draws = np.random.default_rng(seed)
    kinds = np.random.default_rng(9).uniform(0, 255, (CLASSES, channels, 1, 1))  # a colour each
    labels = draws.integers(CLASSES, size=count)
    return kinds[labels] * 0.7 + draws.uniform(0, 77, (count, channels, SIDE, SIDE)), labels


def classifier(*, prelu=True):
    """Return a symbol as of a ResNet: BatchNorm of the data, eps 2e-5, SoftmaxOutput."""
    import mxnet as mx

    sym = mx.sym
    x = sym.BatchNorm(sym.var('data'), fix_gamma=True, eps=2e-5, name='bn_data')
    x = sym.Convolution(x, kernel=(3, 3), pad=(1, 1), num_filter=8, no_bias=True, name='conv0')
    x = sym.BatchNorm(x, fix_gamma=False, eps=2e-5, momentum=0.9, name='bn0')
    x = sym.Activation(x, act_type='relu', name='relu0')
    x = sym.Pooling(
        x, kernel=(3, 3), stride=(2, 2), pool_type='max', pooling_convention='full', name='pool0'
    )
    y = sym.BatchNorm(x, name='bn1')  # every attribute by default: eps 1e-3, fix_gamma
    if prelu:
        y = sym.LeakyReLU(y, act_type='prelu', name='relu1')
    else:
        y = sym.Activation(y, act_type='relu', name='relu1')
    y = sym.Convolution(y, kernel=(3, 3), pad=(1, 1), num_filter=8, name='conv1')
    x = sym.broadcast_add(x, y, name='plus0')
    x = sym.Pooling(x, kernel=(2, 2), global_pool=True, pool_type='avg', name='pool1')
    x = sym.FullyConnected(
        sym.Dropout(sym.Flatten(x), p=0.4, name='drop'), num_hidden=CLASSES, name='fc1'
    )
    return sym.SoftmaxOutput(x, name='softmax')


def attributes():
    """Return a symbol with two heads as of a face's attributes: images scaled in the graph."""
    import mxnet as mx

    sym = mx.sym
    x = (sym.identity(sym.var('data'), name='id') - 127.5) * 0.0078125
    x = sym.Convolution(x, kernel=(3, 3), stride=(2, 2), num_filter=8, name='conv_1')
    x = sym.BatchNorm(x, use_global_stats=True, fix_gamma=True, name='conv_1_bn')
    x = sym.LeakyReLU(x, slope=0.1, name='relu_1')
    x = sym.Pooling(
        x,
        kernel=(3, 3),
        stride=(2, 2),
        pad=(1, 1),
        pool_type='avg',
        count_include_pad=False,
        name='pool_1',
    )
    parts = sym.SliceChannel(x, num_outputs=2, name='slice')
    x = sym.Concat(parts[0] * parts[1], parts[0], name='concat')
    x = sym.FullyConnected(x, num_hidden=6, name='fc_0')
    x = sym.L2Normalization(sym.BatchNorm(x, fix_gamma=False, name='fc_bn'), name='l2')
    gender = sym.FullyConnected(x, num_hidden=CLASSES, name='fc_gender')
    age = sym.FullyConnected(x, num_hidden=1, name='fc_age')
    return sym.Group([
        sym.SoftmaxOutput(gender, name='gender'),
        sym.LogisticRegressionOutput(age, sym.var('age_label'), name='age'),
    ])  # fmt: skip


def train(symbol, prefix, labels=('softmax_label',), rate=0.01, epochs=6, saved=None):
    """Train a symbol as a Module and save it as an epoch's checkpoint; return its accuracy."""
    import mxnet as mx

    mx.random.seed(3)
    np.random.seed(3)
    images, kinds = examples()
    targets = {name: (kinds > 1)[:, None] if 'age' in name else kinds for name in labels}
    targets = {name: mx.nd.array(each, dtype='float64') for name, each in targets.items()}
    feed = mx.io.NDArrayIter(
        mx.nd.array(images, dtype='float64'), targets, batch_size=16, shuffle=False
    )
    module = mx.mod.Module(symbol, label_names=list(targets))
    module.bind(feed.provide_data, feed.provide_label)
    module.init_params(mx.init.Xavier())
    module.init_optimizer(
        optimizer='sgd', optimizer_params={'learning_rate': rate, 'momentum': 0.9}
    )
    for _ in range(epochs):
        feed.reset()
        for batch in feed:
            module.forward_backward(batch)
            module.update()
            mx.nd.waitall()  # without it, weights of this net become NaN now and then
    feed.reset()
    labels = np.concatenate([batch.label[-1].asnumpy() for batch in feed])
    chances = module.predict(feed, always_output_list=True)[0].asnumpy()
    arguments, states = module.get_params()
    for name, array in arguments.items():  # of fix_gamma, which makes them void
        if name in ('bn_data_gamma', 'bn1_gamma', 'conv_1_bn_gamma'):
            arguments[name] = mx.nd.random.uniform(0.5, 2, array.shape)
    if saved is not None:
        arguments['relu1_gamma'] = mx.nd.random.uniform(0.1, 0.4, (8,))
    arguments, states = (
        {name: array.astype('float32') for name, array in each.items()}
        for each in (arguments, states)
    )
    mx.model.save_checkpoint(
        str(prefix), epochs, symbol if saved is None else saved, arguments, states
    )
    return (chances.argmax(1) == labels).mean()


def gluon(prefix):
    """Export a Gluon net that has taken a few steps."""
    import mxnet as mx
    from mxnet.gluon import nn

    mx.random.seed(4)
    net = nn.HybridSequential(prefix='small_')
    with net.name_scope():
        net.add(
            nn.Conv2D(8, 3, 2, 1, in_channels=3), nn.BatchNorm(), nn.PReLU(), nn.AvgPool2D(4, 2, 1),
            nn.Conv2D(8, 3, groups=2, use_bias=False), nn.LeakyReLU(0.1), nn.Dropout(0.2),
            nn.GlobalAvgPool2D(), nn.Flatten(), nn.Dense(CLASSES),
        )  # fmt: skip
    net.initialize(mx.init.Xavier())
    net.hybridize()
    images, labels = examples()
    trainer = mx.gluon.Trainer(net.collect_params(), 'sgd', {'learning_rate': 0.05})
    for _ in range(4):
        with mx.autograd.record():
            loss = mx.gluon.loss.SoftmaxCELoss()(
                net(mx.nd.array(images / 255)), mx.nd.array(labels)
            )
        loss.backward()
        trainer.step(len(images))
    net.export(str(prefix), 4)


def pixel_head(prefix):
    """Export a Gluon net whose output layer is a convolution, as of SqueezeNet and MobileNet."""
    import mxnet as mx
    from mxnet.gluon import nn

    mx.random.seed(5)
    net = nn.HybridSequential(prefix='pixel_')
    with net.name_scope():
        net.add(
            nn.Conv2D(8, 3, 2, 1, in_channels=3, activation='relu'), nn.BatchNorm(),
            nn.Conv2D(CLASSES, 1, in_channels=8), nn.Activation('relu'), nn.GlobalAvgPool2D(),
            nn.Flatten(),
        )  # fmt: skip
    net.initialize(mx.init.Xavier())
    net.hybridize()
    net(mx.nd.array(examples()[0] / 255))
    net.export(str(prefix), 0)


def made(folder):
    """Make every net below a folder, and return name -> prefix of its files."""
    # trained with a ReLU in place of the PReLU, whose gradient MXNet has wrong
    plain = classifier(prelu=False)
    assert train(plain, folder / 'classifier', saved=classifier()) > 0.7
    labels = ('gender_label', 'age_label')
    assert train(attributes(), folder / 'attributes', labels, rate=0.05) > 0.7
    gluon(folder / 'small')
    pixel_head(folder / 'pixel')
    return {name: folder / name for name in ('classifier', 'attributes', 'small', 'pixel')}


def older(text, age):
    """Return a symbol file as an older MXNet wrote it.

    Args:
        text: Of MXNet 1.9.
        age: 'attr' (1.0), 'param' (0.9: two numbers) or 'states' (0.8: no inputs for statistics).
    """
    data = json.loads(text)
    states = {
        pair[0]
        for node in data['nodes']
        if node['op'] == 'BatchNorm'
        for pair in node['inputs'][3:]
    }
    for node in data['nodes']:
        if 'attrs' in node:
            node['attr' if age == 'attr' else 'param'] = node.pop('attrs')
        if age != 'attr':
            node['inputs'] = [pair[:2] for pair in node['inputs']]
            node['backward_source_id'] = -1
        if age == 'states' and node['op'] == 'BatchNorm':
            node['inputs'] = node['inputs'][:3]
    if age != 'attr':
        data['heads'] = [pair[:2] for pair in data['heads']]
        data.pop('attrs', None)
    if age == 'states':
        kept = [at for at in range(len(data['nodes'])) if at not in states]
        place = {old: new for new, old in enumerate(kept)}
        data['nodes'] = [data['nodes'][at] for at in kept]
        for node in data['nodes']:
            node['inputs'] = [[place[pair[0]], *pair[1:]] for pair in node['inputs']]
        data['heads'] = [[place[pair[0]], *pair[1:]] for pair in data['heads']]
        data['arg_nodes'] = [place[at] for at in data['arg_nodes'] if at in place]
        data.pop('node_row_ptr', None)
    return json.dumps(data)
